"""Case tables: what must come out for whom, in YAML, beside the rules (``*_cases.yaml``).

    Payments above the limit need a person:
      given:
        agent: {id: bookkeeper, labels: [accounting]}
        tool: {target: bank/pay, risk: irreversible, effects: [money]}
      columns: [args.amount_micro_usd, expect]
      rows:
        - [50000000, allow payment_within_limit]
        - [50000001, escalate payment_over_limit]

A case says what the whole policy decides, with scopes, modes and the combiner, as the gateway would.
``given`` holds for each case of its table. The titles of tables are the top-level keys, so several files in a
folder are also data that OPA loads without a conflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import orjson
import yaml

from gateway import strictjson
from gateway.digest import call_digest
from gateway.errors import ConfigError, Refused
from gateway.model import Call, Facts, Finding, Json, Manifest, Outcome, Principal, Risk, Tool
from gateway.model import Kind as CallKind
from gateway.policy import data as policy_data
from gateway.policy.problem import InvalidPolicy, Problem

SUFFIX: Final = "_cases.yaml"
_MAX_FILE: Final = 4 * 1024 * 1024
_WORDS: Final = ("allow", "deny", "escalate", "visible", "hidden")


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Agent(_Strict, frozen=True):
    id: str = "agent"
    owner: str = "owner"
    tenant: str = "default"
    subject: str | None = None
    chain: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    environment: str = "default"


class GivenTool(_Strict, frozen=True):
    target: str = "upstream/tool"
    kind: CallKind = "tool"
    risk: Risk = "irreversible"
    effects: tuple[str, ...] = ()
    domain: str = "general"
    idempotent: bool = False
    cost_micro_usd: int = 0
    integrity: Literal["trusted", "untrusted"] = "untrusted"
    confidentiality: int = 0
    polling: bool = False
    source: Literal["operator", "hint", "default"] = "operator"
    sensitive: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None  # of its results
    extra: dict[str, Any] = {}


class Result(_Strict, frozen=True):
    """An answer of the upstream; ``text`` is short for one text block."""

    status: Literal["ok", "tool_error", "rpc_error", "input_required"] = "ok"
    value: Any = None
    text: str | None = None


class Duty(_Strict, frozen=True):
    kind: str
    value: Any = msgspec.UNSET


class Expect(_Strict, frozen=True):
    """What must come out. Codes are all codes of the verdict; what is not named is not looked at."""

    verdict: Literal["allow", "deny", "escalate"] | None = None
    codes: tuple[str, ...] | None = None
    visible: bool | None = None
    obligations: tuple[Duty, ...] | None = None
    notes: tuple[str, ...] | None = None  # codes of modules in mode warn
    observed: tuple[str, ...] | None = None  # codes of modules in mode observe
    args: Any = msgspec.UNSET  # as sent, when an obligation changes them
    shown: Any = msgspec.UNSET  # the result as the agent sees it


class Case(_Strict, frozen=True):
    it: str = ""
    agent: Agent = Agent()
    tool: GivenTool | str = GivenTool()
    args: dict[str, Any] = {}
    facts: dict[str, Any] = {}  # session, budget, trust, breaker, mandate, approval; provenance, addressed
    stale: tuple[str, ...] = ()
    time: str | int = "2026-01-01T12:00:00Z"  # ISO 8601, or nanoseconds since the epoch
    session: str = "session"
    surface: str = "mcp"
    result: Result | None = None
    expect: Expect | str = Expect()


class Table(_Strict, frozen=True):
    about: str = ""
    given: Case = Case()
    cases: tuple[Case, ...] = ()
    columns: tuple[str, ...] = ()  # paths into a case
    rows: tuple[tuple[Any, ...], ...] = ()


class Placed(msgspec.Struct, frozen=True):
    """A case, its name and where it stands."""

    name: str
    file: str
    line: int
    case: Case


def schema() -> dict[str, Any]:
    """The JSON Schema of a file of tables, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "wardgate policy cases",
        **msgspec.json.schema(dict[str, Table]),
    }


def read(root: Path, label: str) -> tuple[Placed, ...]:
    """Every case below a folder; ``InvalidPolicy`` lists what cannot be read."""
    found: list[Placed] = []
    problems: list[Problem] = []
    for path in sorted(root.rglob(f"*{SUFFIX}")):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue
        file = f"{label}/{path.relative_to(root).as_posix()}"
        try:
            raw = path.read_bytes()
            if len(raw) > _MAX_FILE:
                raise policy_data.DataError(f"larger than {_MAX_FILE} bytes")
            for item in _file(raw, file):
                if isinstance(item, Problem):
                    problems.append(item)
                else:
                    found.append(item)
        except (OSError, policy_data.DataError) as error:
            problems.append(Problem(file, 1, "unreadable", str(error)))
    if problems:
        raise InvalidPolicy(problems)
    return tuple(found)


def faults(text: str) -> Iterator[Problem]:
    """What is wrong with the text of a file of tables."""
    for item in _file(text.encode(), "cases"):
        if isinstance(item, Problem):
            yield item


def _file(raw: bytes, file: str) -> Iterator[Placed | Problem]:
    lines = _lines(raw)
    for title, table in policy_data.parse(SUFFIX, raw).items():
        line = lines.get((title,), 1)
        if not isinstance(table, dict):
            yield Problem(
                file, line, "data", f"'{title}' must be a table with 'cases', or 'columns' and 'rows'"
            )
            continue
        try:
            msgspec.convert(table, Table)
            yield from _table(title, table, file, lines)
        except (msgspec.ValidationError, ValueError) as error:
            yield Problem(file, line, "data", f"'{title}': {error}")


def _table(
    title: str, table: Mapping[str, Any], file: str, lines: Mapping[tuple[Any, ...], int]
) -> Iterator[Placed | Problem]:
    given = _spelled(table.get("given", {}))
    cases = [(("cases", number), _spelled(case)) for number, case in enumerate(table.get("cases", ()))]
    columns = table.get("columns", ())
    for number, row in enumerate(table.get("rows", ())):
        at = ("rows", number)
        if len(row) != len(columns):
            said = f"'{title}': {len(row)} values for {len(columns)} columns"
            yield Problem(file, lines.get((title, *at), 1), "data", said)
            continue
        case: dict[str, Any] = {}
        for column, value in zip(columns, row, strict=True):
            _put(case, column.split("."), value)
        told = ", ".join(
            f"{c.split('.')[-1]} {v}" for c, v in zip(columns, row, strict=True) if c != "expect"
        )
        cases.append((at, {"it": told, **_spelled(case)}))
    if not cases:
        yield Problem(file, lines.get((title,), 1), "data", f"'{title}' has no cases")
    for at, said_case in cases:
        line = lines.get((title, *at), 1)
        whole = policy_data.merge(given, said_case, override=True)
        try:
            made = msgspec.convert(whole, Case)
            expected(made)
            call_of(made)
        except (msgspec.ValidationError, ValueError) as error:
            yield Problem(file, line, "data", f"'{title}': {error}")
            continue
        yield Placed(f"{title}: {made.it}" if made.it else title, file, line, made)


def _spelled(case: Mapping[str, Any]) -> dict[str, Any]:
    """A tool may be given by its target alone."""
    tool = case.get("tool")
    return {**case, "tool": {"target": tool}} if isinstance(tool, str) else dict(case)


def _put(case: dict[str, Any], path: list[str], value: Json) -> None:
    for part in path[:-1]:
        case = case.setdefault(part, {})
    case[path[-1]] = value


def _lines(raw: bytes) -> dict[tuple[Any, ...], int]:
    """Where tables and their cases begin."""
    found: dict[tuple[Any, ...], int] = {}
    try:
        root = yaml.compose(raw, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return found
    for title, table in getattr(root, "value", ()):
        found[(title.value,)] = title.start_mark.line + 1
        for name, part in table.value if isinstance(table, yaml.MappingNode) else ():
            if isinstance(part, yaml.SequenceNode):
                for number, item in enumerate(part.value):
                    found[(title.value, name.value, number)] = item.start_mark.line + 1
    return found


def expected(case: Case) -> Expect:
    """``deny code_a code_b`` spelled out; ``ValueError`` for a word that is no verdict."""
    if isinstance(case.expect, Expect):
        if case.expect == Expect():
            raise ValueError("says nothing that is expected")
        return case.expect
    word, *codes = case.expect.replace(",", " ").split() or [""]
    if word not in _WORDS:
        raise ValueError(f"expect: '{word}' is none of {', '.join(_WORDS)}")
    if word in ("visible", "hidden"):
        return Expect(visible=word == "visible")
    return Expect(verdict=word, codes=tuple(codes) if codes else None)  # type: ignore[arg-type]  # checked above


def call_of(case: Case) -> Call:
    """The call of a case, as the pipeline would make it."""
    given = GivenTool(target=case.tool) if isinstance(case.tool, str) else case.tool
    upstream, slash, name = given.target.partition("/")
    if not slash:
        raise ValueError(f"tool.target '{given.target}' must be 'upstream/name'")
    manifest = Manifest(
        risk=given.risk, effects=given.effects, domain=given.domain, idempotent=given.idempotent,
        cost_micro_usd=given.cost_micro_usd, integrity=given.integrity,
        confidentiality=given.confidentiality, polling=given.polling, source=given.source,
        sensitive=given.sensitive, extra=given.extra,
    )  # fmt: skip
    definition = b""
    if given.output_schema is not None:
        definition = orjson.dumps({"name": name, "outputSchema": given.output_schema})
    tool = Tool(
        kind=given.kind, upstream=upstream, name=name, target=given.target, schema_hash="", manifest=manifest,
        definition_json=definition,
    )  # fmt: skip
    agent = case.agent
    principal = Principal(
        tenant=agent.tenant, agent=agent.id, owner=agent.owner, credential="case", subject=agent.subject,
        chain=agent.chain, labels=agent.labels, environment=agent.environment,
    )  # fmt: skip
    try:
        args_json = strictjson.canonical(case.args)
    except Refused as error:
        raise ValueError(f"args: {error}") from error
    return Call(
        id="case", principal=principal, tool=tool, args=case.args, args_json=args_json,
        digest=call_digest(principal, case.session, tool, args_json), session=case.session, thread="",
        surface=case.surface, effect_key="case", received_ns=_ns(case.time),
    )  # fmt: skip


def facts_of(case: Case) -> Facts:
    slow = {name: value for name, value in case.facts.items() if name in ("trust", "breaker", "mandate")}
    own = ("provenance", "addressed")  # of the arguments: ``call.provenance`` and ``call.addressed``
    fast = {name: value for name, value in case.facts.items() if name not in slow and name not in own}
    return Facts(
        slow=slow, fast=fast, stale=case.stale, provenance=case.facts.get("provenance", {}),
        addressed=case.facts.get("addressed", True),
    )  # fmt: skip


def outcome_of(result: Result) -> Outcome:
    value = result.value
    if result.text is not None:
        value = {"content": [{"type": "text", "text": result.text}]}
    content = orjson.dumps(value)
    if result.status == "rpc_error":
        return Outcome(status=result.status, error_json=content)
    return Outcome(status=result.status, result_json=content)


def codes(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    return tuple(sorted({finding.code for finding in findings}))


def _ns(time: str | int) -> int:
    if isinstance(time, int):
        return time
    try:
        moment = datetime.fromisoformat(time)
    except ValueError as error:
        raise ValueError(f"time: {error}") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000


def folder_cases(path: Path | None, pack: str | None) -> tuple[Placed, ...]:
    """The cases of a folder; without one those of the pack itself. A folder changes what a pack decides."""
    from gateway.policy.library import library_path

    if path is not None:
        return read(path, str(path))
    if pack is None:
        raise ConfigError("neither a folder nor a pack to read cases from")
    return read(library_path() / "packs" / pack, f"shipped/packs/{pack}")
