"""Outcomes to judge by, and a clock that is moved by hand."""

from __future__ import annotations

from typing import Any, Final

from gateway.trust.account import Account, take
from gateway.trust.evidence import WEIGHTS, Evidence
from gateway.trust.settings import DAY, Settings

NOW: Final = 20_000 * DAY + DAY // 2
SETTINGS: Final = Settings()
_REFS: Final = iter(range(1 << 40))


def row(outcome: str = "verified", at_ns: int = NOW, **changes: Any) -> Evidence:
    number = next(_REFS)
    base: dict[str, Any] = {
        "ref": f"r{number}", "tenant": "t", "agent": "bot", "domain": "payments", "risk": "reversible",
        "good": 1.0 if not WEIGHTS[outcome].bad else 0.0, "bad": WEIGHTS[outcome].bad,
        "call_id": f"c{number}", "template": f"t{number % 10}", "session": f"s{number % 25}",
    }  # fmt: skip
    return Evidence(outcome=outcome, at_ns=at_ns, **{**base, **changes})  # type: ignore[arg-type]


def worked(days: int, a_day: int, *, until_ns: int = NOW, **changes: Any) -> list[Evidence]:
    """So many verified outcomes a day, the last day ending at a moment; oldest first."""
    return [
        row(at_ns=until_ns - back * DAY - number * 1_000_000_000, **changes)
        for back in reversed(range(days)) for number in reversed(range(a_day))
    ]  # fmt: skip


def account_of(
    rows: list[Evidence], now_ns: int = NOW, settings: Settings = SETTINGS, **state: Any
) -> Account:
    account = Account(**{"tier": settings.initial, **state})
    for each in rows:
        take(account, each, each.at_ns, settings)
    return account
