"""Writes the parts of the reference pages that come from code: ``make docs``.

Of each page, what stands above the mark is written by people and kept. ``tests/docs`` fails when a page is
not what this writes, so a setting, metric, reason code, address or command cannot be added undocumented.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, get_args, get_origin

import typer
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from gateway.cli.app import app as commands
from gateway.config import Config, Section
from gateway.policy import cases
from gateway.policy import schema as policy_schema
from gateway.reasons import REASONS
from gateway.sessions import monitors as session_monitors
from gateway.sessions.monitors import definitions, templates
from gateway.surfaces.admin import AdminDeps, create_admin
from gateway.surfaces.http.app import create_app, describe
from gateway.surfaces.http.deps import HttpDeps
from gateway.telemetry import specs

REFERENCE: Final = Path(__file__).parents[1] / "reference"
MARK: Final = "<!-- Generated from here on by docs/generate/reference.py (make docs). -->\n"


def main() -> None:
    for name, text in {**pages(), **schemas()}.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/reference/{name}\n")


def pages() -> dict[str, str]:
    """Each page with a generated part, by file name, as it should be."""
    parts = {
        "metrics.md": metrics(),
        "reason-codes.md": reason_codes(),
        "configuration.md": configuration(),
        "api.md": api(description()),
        "http.md": api(agents_description()),
        "cli.md": cli(),
        "monitors.md": monitors(),
    }
    return {
        name: f"{_written(name)}{MARK}\n" + "\n".join(lines).rstrip() + "\n" for name, lines in parts.items()
    }


def schemas() -> dict[str, str]:
    """JSON Schemas for editors, by file name."""
    found = {
        "policy-input.json": policy_schema.published(),
        "policy-cases.json": cases.schema(),
        "monitors.json": session_monitors.schema(),
    }
    return {name: json.dumps(each, indent=2) + "\n" for name, each in found.items()}


def _written(name: str) -> str:
    """What people wrote at the top of the page."""
    top, mark, _ = (REFERENCE / name).read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise SystemExit(f"docs/reference/{name} has no line that says where the generated part begins")
    return top


def _table(head: str, rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A Markdown table, or nothing when there are no rows; ends with an empty line."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [head, "|---" * (head.count("|") - 1) + "|", *lines, ""] if lines else []


# -- monitors -------------------------------------------------------------------------------------------

_AUTOMATA: Final = {
    "must_precede": (templates.MustPrecede,),
    "at_most_n": (templates.AtMost, templates.AtMostInWindow),
    "at_most_total": (templates.AtMost, templates.AtMostInSlots),
    "never_after": (templates.NeverAfter,),
    "cannot_follow_without": (templates.CannotFollowWithout,),
    "mutually_exclusive": (templates.MutuallyExclusive,),
    "rate_limit": (templates.AtMostInSlots,),
    "separation_of_actors": (templates.SeparationOfActors,),
    "within": (templates.Within,),
}


def monitors() -> Iterator[str]:
    """Each template with its formula and members, then what a matcher may say."""
    known = session_monitors.schema()["$defs"]
    for name in definitions.TEMPLATES:
        kind = name.title().replace("_", "")
        yield from (f"## `{name}`", "", *_paragraphs(getattr(definitions, kind)))
        for number, automaton in enumerate(_AUTOMATA[name]):
            if len(_AUTOMATA[name]) > 1:
                yield from (f"{'With' if number else 'Without'} `within_s`:", "")
            yield from _paragraphs(automaton)
        yield from _members(known[kind])
    yield from ("## Matchers", "", *_paragraphs(definitions.Matcher), *_members(known["Matcher"]))
    yield from ("### Conditions on an argument", "", *_members(known["Argument"]))


def _paragraphs(kind: type) -> Iterator[str]:
    """What a class says of itself."""
    for paragraph in (kind.__doc__ or "").split("\n\n"):
        yield from (" ".join(paragraph.replace("``", "`").split()), "")


def _members(schema: dict[str, Any]) -> list[str]:
    needed = schema["required"]
    rows = [
        (f"`{name}`", _shape(member), "yes" if name in needed else "")
        for name, member in schema["properties"].items()
    ]
    return _table("| member | value | required |", rows)


def _shape(member: dict[str, Any]) -> str:
    """A member of a JSON Schema in a few words."""
    if "$ref" in member:
        return f"a {member['$ref'].rpartition('/')[2].lower()}"
    if "anyOf" in member:
        return " or ".join(dict.fromkeys(_shape(one) for one in member["anyOf"]))
    if "enum" in member:
        return "one of " + ", ".join(f"`{one}`" for one in member["enum"])
    if member["type"] == "array":
        return f"list of {_shape(member['items'])}"
    if member["type"] == "object":
        return f"mapping to {_shape(member['additionalProperties'])}"
    low = member.get("minimum", member.get("exclusiveMinimum"))
    high = member.get("maximum")
    bounds = f" from {low} to {high:.0f}" if low is not None and high is not None else ""
    default = f", default {member['default']}" if member.get("default") is not None else ""
    return f"{member['type']}{bounds}{default}"


# -- metrics --------------------------------------------------------------------------------------------


def metrics() -> Iterator[str]:
    for spec in specs.SPECS:
        kind = spec.kind + (", with exemplars" if spec.exemplar else "")
        yield from (f"## `{spec.name}`", "", f"{spec.help} ({kind})", "")
        yield from _table("| label | values |", ((f"`{label}`", said) for label, said in spec.labels.items()))
        if spec.buckets:
            yield from ("Buckets: " + ", ".join(map(_seconds, spec.buckets)) + ".", "")
    yield from (
        "## Outcome `error`",
        "",
        "Refusals that are no decision about the call, but the failure to make one:",
    )
    yield ", ".join(f"`{code}`" for code in sorted(specs.FAULTS)) + "."


def _seconds(bound: float) -> str:
    if bound < 1e-3:
        return f"{bound * 1e6:g} µs"
    return f"{bound * 1e3:g} ms" if bound < 1 else f"{bound:g} s"


# -- reason codes ---------------------------------------------------------------------------------------


def reason_codes() -> Iterator[str]:
    yield from _table(
        "| code | what the agent is told | what would be accepted | who | again | unavailable |",
        (
            (
                f"<a id='{reason.code}'></a>`{reason.code}`",
                f"**{reason.title}.** {reason.message}",
                reason.remedy,
                str(reason.party),
                "yes" if reason.retryable else "",
                "yes" if reason.unavailable else "",
            )
            for reason in REASONS.values()
        ),
    )


# -- configuration --------------------------------------------------------------------------------------


def configuration() -> Iterator[str]:
    for path, model in sections():
        yield from (f"## {f'`{path}`' if path else 'Top level'}", "")
        if model.__doc__ and model.__doc__ != Section.__doc__:
            yield from (model.__doc__.strip().replace("``", "`"), "")
        yield from _table(
            "| key | type | default | |",
            (
                (
                    f"`{path}.{name}`" if path else f"`{name}`",
                    _type(field),
                    _default(field),
                    field.description or "",
                )
                for name, field in model.model_fields.items()
                if _below(field.annotation) is None
            ),
        )


def sections(model: type[BaseModel] = Config, path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of the configuration with its path, depth first."""
    yield path, model
    for name, field in model.model_fields.items():
        below = _below(field.annotation)
        if below is not None:
            inner, many = below
            here = f"{path}.{name}" if path else name
            yield from sections(inner, f"{here}.<name>" if many else here)


def _below(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """The section below a setting, and whether there may be many by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    optional = [each for each in get_args(annotation) if each is not type(None)]
    if get_origin(annotation) is UnionType and len(optional) == 1:
        return _below(optional[0])
    value = get_args(annotation)[1] if get_origin(annotation) is dict else None
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value, True
    return None


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    for bound in field.metadata:
        annotation = Annotated[annotation, bound]
    schema = TypeAdapter(annotation).json_schema()
    bounds = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    low = bounds.get("minimum", bounds.get("exclusiveMinimum"))
    high = bounds.get("maximum", bounds.get("exclusiveMaximum"))
    text = _json_type(schema)
    above = "above " if "exclusiveMinimum" in bounds else ""
    if high is not None:
        return f"{text}, {above}{low:,} to {high:,}"
    return text if low is None else f"{text}, {above or 'from '}{low:,}"


def _json_type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_json_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_json_type(schema['items'])}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"mapping to {_json_type(inner)}" if isinstance(inner, dict) else "mapping"
    return str(schema.get("format") or schema.get("type", "any"))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    default = field.get_default(call_default_factory=True)
    if default is None or default in ((), {}, ""):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


# -- the HTTP APIs --------------------------------------------------------------------------------------


def api(document: dict[str, Any]) -> Iterator[str]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield from (f"## `{method.upper()} {path}`", "", f"**{operation['summary']}**", "")
            if "description" in operation:
                yield from (operation["description"], "")
            yield from _table(
                "| parameter | in | type | |",
                (
                    (f"`{each['name']}`", each["in"], _json_type(each["schema"]), each.get("description", ""))
                    for each in operation.get("parameters", ())
                ),
            )
            if "requestBody" in operation:
                yield from (f"Body: {_body(operation['requestBody'])}", "")
            yield from _table(
                "| status | body | |",
                (
                    (status, _body(answer), answer["description"].replace("Successful Response", ""))
                    for status, answer in sorted(operation["responses"].items())
                ),
            )
    yield from ("# Models", "")
    for name, schema in document["components"]["schemas"].items():
        yield from (f"## {name}", "")
        if "description" in schema:
            yield from (schema["description"], "")
        yield from _table(
            "| field | type | |",
            (
                (f"`{field}`", _ref(each), each.get("description", ""))
                for field, each in schema.get("properties", {}).items()
            ),
        )


def description() -> dict[str, Any]:
    """The OpenAPI document of the admin API; nothing of it is called."""
    nothing: Any = None
    names = (name for name in AdminDeps.__struct_fields__ if name not in ("version", "allowed_hosts"))
    deps = AdminDeps(version="", allowed_hosts=(), **dict.fromkeys(names, nothing))
    return create_admin(deps).openapi()


def agents_description() -> dict[str, Any]:
    """The OpenAPI document of the HTTP front for agents; nothing of it is called."""
    nothing: Any = None
    deps = HttpDeps(**{**dict.fromkeys(HttpDeps.__struct_fields__, nothing), "version": ""})
    return describe(create_app(deps, nothing))


def _body(answer: dict[str, Any]) -> str:
    return ", ".join(
        _ref(media["schema"]) if media.get("schema") else f"`{kind}`"
        for kind, media in answer.get("content", {}).items()
    )


def _ref(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_ref(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_ref(schema['items'])}"
    return _json_type(schema)


# -- the command line -----------------------------------------------------------------------------------


def cli() -> Iterator[str]:
    root: Any = typer.main.get_command(commands)
    yield from (root.epilog, "")
    for path, command in subcommands(root):
        yield from (f"## `{path}`", "", _help(command), "")
        yield from _table("| option | default | |", map(_parameter, command.params))


def subcommands(command: Any, path: str = "wardgate") -> Iterator[tuple[str, Any]]:
    """Every command that is not hidden, with the words that call it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in sorted(command.commands.items()):
        if not inner.hidden:
            yield from subcommands(inner, f"{path} {name}")


def _parameter(param: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    if param.param_type_name == "argument":
        names = f"`{(param.name or '').upper()}`"
    shown = isinstance(param.default, str | int | float | Path) and not isinstance(param.default, bool)
    said = " ".join((getattr(param, "help", "") or "").split())
    return names, f"`{param.default}`" if shown else "", said


def _help(command: Any) -> str:
    return "\n".join(line.strip() for line in (command.help or "").strip().splitlines())


if __name__ == "__main__":
    main()
