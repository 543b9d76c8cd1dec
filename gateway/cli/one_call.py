"""One call for people: its story from intent to outcome."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gateway.cli.output import printable, say
from gateway.cli.times import local

if TYPE_CHECKING:
    from gateway.journal.query import Record, Shown


def tell(shown: Shown) -> None:
    first = shown.records[0]
    _line("call", first["call_id"])
    _line(
        "agent",
        f"{first.get('agent', '')} (owner {_of(first, 'agent_snapshot', 'owner')}, tenant {first['tenant']})",
    )
    _line("target", f"{first.get('target', '')} ({first.get('risk', 'unknown risk')})")
    _line("session", first.get("session"))
    _line("digest", first.get("digest"))
    for record in shown.records:
        say()
        say(printable(f"{local(record['at_ns'])}  {record['phase']}"))
        _step(record)
    say()
    _line("kept", shown.payload_state)
    for name, value in shown.payload.items():
        say(f"  {name}:")
        for line in json.dumps(value, indent=2, ensure_ascii=False).splitlines():
            say(f"    {printable(line)}")


def _step(record: Record) -> None:
    if "verdict" in record:
        _line(
            "  verdict",
            f"{record['verdict']}, action {record.get('action', '')}, mode {record.get('mode', '')}",
        )
    if "status" in record:
        _line("  status", record["status"])
    for name in ("code", "outcome_code", "envelope", "operator", "verifier", "read", "detail"):
        _line(f"  {name}", record.get(name))
    for kind in ("findings", "notes"):
        for finding in record.get(kind) or ():
            _line(
                f"  {kind[:-1]}",
                f"{finding['code']}: {finding['message']} ({finding.get('rule') or 'gateway'})",
            )
    for obligation in record.get("obligations") or ():
        _line("  obligation", f"{obligation['kind']} ({obligation['rule']})")
    in_force = record.get("in_force") or {}
    if in_force:
        _line("  engine", in_force.get("engine"))
        for name in ("policy", "config", "keys", "catalog"):
            _line(f"  {name}", in_force.get(f"{name}_revision"))


def _of(record: Record, snapshot: str, name: str) -> Any:
    return (record.get(snapshot) or {}).get(name, "unknown")


def _line(name: str, value: object) -> None:
    if value not in (None, ""):
        say(printable(f"{name:<14} {value}"))
