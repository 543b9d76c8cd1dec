"""``wardgate policy explain`` and ``eval``: one decision, its rules, and what stopped the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    printable,
    say,
)
from gateway.cli.policy_source import Folder, Pack, Reveal, bundle_of, short

if TYPE_CHECKING:
    from gateway.policy.explain import Explanation, Rule, Stop, Value
    from gateway.policy.policy import EmbeddedPolicy

_WIDE = 200


def explain(
    call_id: Annotated[str, typer.Argument(metavar="DECISION_ID", help="Id of the call.")],
    under: Annotated[
        Path | None, typer.Option("--under", help="Explain under this folder instead of the configured one.")
    ] = None,
    pack: Pack = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also rules that stopped at their first condition, and scopes.")
    ] = False,
    reveal: Reveal = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say which rules made a recorded decision, and which condition stopped each of the others.

    The recorded call is decided again with what policy was given then. Exits with 1 when the policy explained
    here is not the recorded one and decides otherwise.
    """
    import msgspec

    from gateway.cli.policy_replay import inputs
    from gateway.journal import display
    from gateway.policy.explain import explain_call
    from gateway.policy.policy import EmbeddedPolicy
    from gateway.policy.replay import compare, decided, result_of

    policy = EmbeddedPolicy(bundle_of(under, config, pack))
    with inputs(config) as recorded:
        found = recorded.one(call_id)
    if found is None:
        fail(f"There is no decision {call_id}.", "See 'wardgate decisions list'.", NOT_FOUND)
    if found.call is None:
        fail(
            f"The decision {call_id} cannot be made again: {_WHY.get(found.missing or '', found.missing)}.",
            "What was decided is on record: 'wardgate decisions show'.",
            NOT_FOUND,
        )
    call, said = decided(policy, found)
    change, why = compare(found.said, said)
    stages = []
    for asked in (found.call, call) if call is not found.call else (call,):
        shown = asked.args if reveal else display.redact(asked.args, found.sensitive)
        stages.append(explain_call(policy, "call", asked, found.facts, shown_args=shown))
    result = None
    if found.outcome is not None and policy.wants_result(call):
        result = result_of(policy, call, found.facts, found.outcome)
        shown = call.args if reveal else display.redact(call.args, found.sensitive)
        judged = {"result": msgspec.to_builtins(found.result_said or result), "status": found.outcome.status}
        stages.append(
            explain_call(
                policy, "result", call, found.facts, found.outcome, shown_args=shown,
                show_result=reveal or not display.restricts(judged),
            )
        )  # fmt: skip
    same = found.said.revision == policy.revision
    if as_json:
        print_json({
            "call_id": call_id, "recorded": msgspec.to_builtins(found.said),
            "decided": msgspec.to_builtins(said), "result": msgspec.to_builtins(result), "change": change,
            "why": why, "revision": policy.revision, "recorded_revision": found.said.revision,
            "stages": [msgspec.to_builtins(stage) for stage in stages],
        })  # fmt: skip
    else:
        say(printable(f"{found.agent} → {found.target}: {said.verdict} ({said.code or 'no code'})"))
        if not same:
            note(
                f"Recorded under revision {found.said.revision[:12]}, explained under {policy.revision[:12]}."
                + (f" It was {found.said.verdict} ({found.said.code}) then." if change != "unchanged" else "")
            )
        for stage in stages:
            tell(stage, everything)
    if change != "unchanged":
        raise typer.Exit(FOUND_SOMETHING)


_WHY = {
    "no_payload": "its arguments are not kept (any more)",
    "unreadable": "its arguments are sealed with another key",
    "not_asked": "policy was not asked",
    "unfinished": "its record is not complete yet",
    "no_original": "an obligation changed its arguments, and the original is not on record",
    "no_snapshot": "the agent or tool as it was is not on record",
}


def tell(stage: Explanation, everything: bool) -> None:
    """One phase for people."""
    say()
    say(f"phase {stage.phase}: {len(stage.fired)} fired, {len(stage.stopped)} did not")
    for rule in stage.fired:
        say(printable(f"  ✓ {_head(rule)}"))
        for member in rule.members:
            said = member if isinstance(member, dict) else {"value": member}
            words = said.get("message") or said.get("kind") or ""
            say(printable(f"      {said.get('code') or ''} {words}".rstrip()))
    shown = [rule for rule in stage.stopped if everything or (rule.stop is not None and _near(rule.stop))]
    if shown:
        say("  nearly:" if not everything else "  stopped:")
    for rule in shown:
        assert rule.stop is not None, "it did not fire"
        say(printable(f"  ✗ {_head(rule)}"))
        _tell_stop(rule.stop, "      ", rule.file)
    left = len(stage.stopped) - len(shown)
    if everything:
        for outside in stage.outside:
            say(printable(f"  – {outside.rule}: not in scope ({outside.why})"))
    elif left or stage.outside:
        say(f"  ({left} more stopped early, {len(stage.outside)} not in scope: --all)")


def _near(stop: Stop) -> bool:
    """Whether all but one of its conditions held, or what stopped it can only be that one."""
    return stop.held > 0 or stop.conditions <= 1


def _head(rule: Rule) -> str:
    mode = f", {rule.mode}" if rule.mode != "enforce" else ""
    return f"{rule.contributes} by {rule.rule} ({rule.file}:{rule.line}{mode})"


def _tell_stop(stop: Stop, indent: str, file: str) -> None:
    say(printable(f"{indent}{stop.held} of {stop.conditions} held; line {stop.line}: {stop.condition}"))
    if stop.error:
        say(printable(f"{indent}  fails: {stop.error}"))
    for value in stop.values:
        say(printable(f"{indent}  {_value(value)}"))
    for solution in stop.bound:
        pairs = solution.items() if isinstance(solution, dict) else ()
        say(printable(f"{indent}  with {short(f'{name} = {_brief(value)}' for name, value in pairs)}"))
    for inner in stop.because:
        say(printable(f"{indent}  {inner.name} (line {inner.line}) has no value:"))
        _tell_stop(inner.stop, f"{indent}    ", file)


def _value(value: Value) -> str:
    return f"{value.name} is undefined" if value.undefined else f"{value.name} = {_brief(value.value)}"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDE else f"{text[:_WIDE]}…"


def evaluate(
    folder: Folder = None,
    pack: Pack = None,
    given: Annotated[
        Path | None,
        typer.Option("--input", "-i", help="A case (YAML or JSON) or a policy input (JSON); '-' is stdin."),
    ] = None,
    tool: Annotated[str | None, typer.Option(help="The tool, upstream/name.")] = None,
    risk: Annotated[str | None, typer.Option(help="Its risk class.")] = None,
    effect: Annotated[
        list[str] | None, typer.Option(help="An effect of it; several times for several.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="The agent.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label of the agent.")] = None,
    environment: Annotated[str | None, typer.Option(help="The agent's environment.")] = None,
    args: Annotated[str | None, typer.Option(help="The arguments, as a JSON object.")] = None,
    why: Annotated[
        bool, typer.Option("--explain", help="Also say which rules fired and what stopped others.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Decide one input, from a file, from stdin or from options. Nothing is sent and nothing recorded.

    A case is what stands in a table of '*_cases.yaml': agent, tool, args, facts, result. Options win over it.
    """
    import msgspec

    from gateway.policy import cases
    from gateway.policy.explain import explain_call
    from gateway.policy.policy import EmbeddedPolicy, at_once

    case = _case(given)
    for path, value in (
        (("tool", "target"), tool), (("tool", "risk"), risk), (("tool", "effects"), effect or None),
        (("agent", "id"), agent), (("agent", "labels"), label or None),
        (("agent", "environment"), environment), (("args",), _object(args)),
    ):  # fmt: skip
        if value is not None:
            _put(case, path, value)
    try:
        made = msgspec.convert(case, cases.Case)
        call, facts = cases.call_of(made), cases.facts_of(made)
    except (msgspec.ValidationError, ValueError) as error:
        fail(f"The input is not a case: {error}.", "See docs/how-to/test-a-policy.md.")
    policy: EmbeddedPolicy = EmbeddedPolicy(bundle_of(folder, config, pack), memoise=False)
    outcome = cases.outcome_of(made.result) if made.result is not None else None
    if outcome is None:
        decision = at_once(policy.call(call, facts))
    else:
        decision = at_once(policy.result(call, facts, outcome)).decision
    seen = policy.sees(call.principal, call.tool, facts)
    stage = (
        explain_call(policy, "call" if outcome is None else "result", call, facts, outcome) if why else None
    )
    if as_json:
        print_json({
            **msgspec.to_builtins(decision), "visible": seen,
            **({"explanation": msgspec.to_builtins(stage)} if stage is not None else {}),
        })  # fmt: skip
        return
    say(
        printable(
            f"{decision.verdict} ({decision.code or 'no code'})" + ("" if seen else ", and not visible")
        )
    )
    for name, findings in (("", decision.findings), ("note ", decision.notes)):
        for finding in findings:
            chain = f" [{finding.chain}]" if finding.chain else ""
            say(printable(f"  {name}{finding.code}{chain}: {finding.message} ({finding.rule or 'gateway'})"))
    for observed in decision.observed:
        codes = short(each.code for each in observed.findings)
        say(f"  observed {observed.verdict}: {codes} ({observed.rule})")
    for duty in decision.obligations:
        say(printable(f"  obligation {duty.kind}: {_brief(msgspec.to_builtins(duty.value))} ({duty.rule})"))
    if stage is not None:
        tell(stage, True)


def _case(given: Path | None) -> dict[str, Any]:
    from gateway.policy import data

    if given is None:
        return {}
    raw = sys.stdin.buffer.read() if str(given) == "-" else _bytes(given)
    try:
        found = data.parse("input.json" if raw.lstrip()[:1] == b"{" else "input.yaml", raw)
    except data.DataError as error:
        fail(f"The input cannot be read: {error}.")
    if "call" in found:
        return _of_input(found)
    if isinstance(found.get("tool"), str):
        found["tool"] = {"target": found["tool"]}
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}.", code=NOT_FOUND)


def _of_input(found: dict[str, Any]) -> dict[str, Any]:
    """A policy input as a case: the same values in other places."""
    from gateway.policy.contract import FACTS

    call, tool, agent = (dict(found.get(part) or {}) for part in ("call", "tool", "agent"))
    case: dict[str, Any] = {
        "agent": agent | {name: found[name] for name in ("chain", "environment") if name in found},
        "tool": {name: value for name, value in tool.items() if name not in ("upstream", "name", "pin")},
        "args": call.get("args", {}),
        "facts": {name: found[name] for name in FACTS if name in found},
    }
    case |= {name: call[name] for name in ("session", "surface") if name in call}
    case |= {name: found[name] for name in ("time", "stale") if name in found}
    if "result" in found:
        case["result"] = {name: value for name, value in found["result"].items() if name != "text"}
    return case


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        fail(f"--args is not JSON: {error}.")
    if not isinstance(value, dict):
        fail("--args must be a JSON object.")
    return value


def _put(case: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        case = case.setdefault(part, {})
    case[path[-1]] = value
