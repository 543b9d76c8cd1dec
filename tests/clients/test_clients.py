"""What ``make test-clients`` says of a client is true: it passes what is as promised and fails what is not.

Installed here is only the official Python client; the others are driven by ``make test-clients``.
"""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.clients import __main__ as run
from tests.clients import environments, story
from tests.clients import stage as stages
from tests.clients.clients import CLIENTS, HERE, NODE
from tests.clients.stage import staged
from tests.clients.upstream import SECRETS

MCP = next(client for client in CLIENTS if client.name == "mcp23-auto")
DRIVER = (sys.executable, str(HERE / MCP.driver), "{url}", MCP.mode)


@pytest.fixture
def quick(monkeypatch):
    """The slow call is not so slow."""
    monkeypatch.setattr(story, "REPORT_S", 0.8)


async def test_the_official_client_keeps_every_promise(quick):
    with staged([MCP]) as stage:
        wrong = await stage.play(MCP, DRIVER)
    assert len(wrong) > 10 and not any(wrong.values()), wrong


async def test_a_gateway_that_only_observes_keeps_few(quick):
    """The other way round: with nothing enforced, what depends on the gateway is found to be broken."""
    with staged([MCP], mode="observe") as stage:
        wrong = await stage.play(MCP, DRIVER)
    broken = {promise for promise, what in wrong.items() if what}
    assert broken == {
        "list", "read", "denied", "escalated", "escalated too", "after busy", "approved again", "rejected",
        "secrets", "effects", "approvals",
    }, wrong  # fmt: skip


async def test_a_driver_that_does_not_get_through_is_a_failure(monkeypatch):
    monkeypatch.setattr(stages, "TIMEOUT_S", 2.0)
    scripts = {
        "raise SystemExit('the client broke')": "ended with 1:\nthe client broke",
        "print('no report')": "without a report: no report",
        "import time; time.sleep(60)": "ended with nothing after",
    }
    clients = CLIENTS[: len(scripts)]
    with staged(clients) as stage:
        for client, (script, said) in zip(clients, scripts.items(), strict=True):
            wrong = await stage.play(client, (sys.executable, "-c", script))
            assert said in str(wrong["run"])


# ------------------------------------------------------------------------------------ the judgement


def good() -> dict[str, Any]:
    """A run in which all is as promised, as plain values to be spoilt."""
    refusal = '{{"v":1,"decision":"{}","reason":"{}","because":["payment_over_limit"],"retryable":{}}}'
    waiting = (
        "Waiting for approval: 5 is above the limit of 1. A person has to approve it. "
        r"Call again with the same arguments. {\"decision\":\"pending\",\"approval_id\":\"ap-%d\"}"
    )
    customer = {"balance_micro_usd": 184_000_000, "password": "[redacted]"}
    read = {
        "text": '{"name": "Ada Brandt", "notes": ["her shop\'s key is [redacted:shop_key]"]}',
        "structured": customer,
        "failed": False,
    }
    read_again = dict(read)
    denied = (
        "Refused: 5 is above the cap of 1. Payments of this size are not made by agents.\n"
        + refusal.format("deny", "payment_over_cap", "false")
    )
    return {
        "report": {
            "version": MCP.version,
            "tools": ["pay", "get_customer", "set_status", "build_report"],
            "progress": 3,
            "steps": {
                "read": [read],
                "denied": [{"text": denied, "failed": True}],
                "after denied": [{"text": "C-1 is now silver."}],
                "escalated": [{"text": waiting % 1, "failed": True}],
                "escalated too": [{"text": waiting % 2}],
                "after escalated": [{"text": "Paid 5000000 micro-USD for it."}],
                "busy": [
                    {"text": "Not done: busy. " + refusal.format("unavailable", "overloaded", "true")},
                    {"text": "Report 'sales' is ready."},
                ],
                "after busy": [read_again],
                "approved": [{"text": "Paid 500000000 micro-USD for it.", "failed": False}],
                "approved again": [{"text": "Refused: it has been carried out. approval_done"}],
                "rejected": [
                    {
                        "text": "Refused: a reviewer rejected it. Reason: too_risky. "
                        f'They say: "{story.REJECTED_WITH}" approval_rejected',
                        "failed": True,
                    }
                ],
            },
        },
        "output": "",
        "calls": [(MCP.era, 200)] * 12,
        "wire": b"Ada Brandt",
        "effects": [
            {"tool": "set_status"},
            {"tool": "pay", "amount_micro_usd": 5_000_000},
            {"tool": "pay", "amount_micro_usd": 500_000_000},
        ],
        "decided": [
            ("crm/get_customer", "allow", "a"),
            ("crm/pay", "deny", "b"),
            ("crm/set_status", "allow", "a"),
            *[("crm/pay", "escalate", "c")] * 5,
            ("crm/pay", "allow", "a"),
            ("crm/get_customer", "allow", "a"),
            ("crm/build_report", "allow", "a"),
            ("", "", "overloaded"),
        ],
        "approvals": [("ap-1", "executed"), ("ap-2", "rejected")],
        "trips": [],
    }


def broken(run: dict[str, Any]) -> set[str]:
    wrong = story.judge(MCP, story.Seen(**run))
    return {promise for promise, what in wrong.items() if what}


def test_a_run_as_promised_has_nothing_wrong():
    assert broken(good()) == set()


SPOILT = {
    # what went wrong: (where, value, the promise it breaks)
    "a hidden tool is offered": ("report tools", [*story.TOOLS, "drop_customers"], "list"),
    "a tool is missing": ("report tools", ["pay"], "list"),
    "the call was lost": ("report steps read", [], "read"),
    "the customer came unredacted": ("report steps read 0 text", "Ada Brandt 184000000 her shop", "read"),
    "no typed part came": ("report steps read 0 structured", None, "read"),
    "the typed part lost a field": (
        "report steps read 0 structured", {"balance_micro_usd": 0, "password": "[redacted]"}, "read",
    ),
    "the model saw a mask": ("report steps denied 0 text", "An error occurred. Please try again.", "denied"),
    "the denial looks like a success": ("report steps denied 0 failed", False, "denied"),
    "the session ended": ("report steps", {**good()["report"]["steps"], "after denied": []}, "after denied"),
    "the escalation was hidden": (
        "report steps", {**good()["report"]["steps"], "escalated": [{"text": "error"}]}, "escalated",
    ),
    "the escalated call looks done": ("report steps escalated 0 failed", False, "escalated"),
    "the second one was refused": (
        "report steps", {**good()["report"]["steps"], "escalated too": [{"text": "Refused: no."}]},
        "escalated too",
    ),
    "the approved call was held again": (
        "report steps approved 0 text", "Waiting for approval: once more", "approved",
    ),
    "the approved call looks failed": ("report steps approved 0 failed", True, "approved"),
    "it was paid twice": ("report steps", {
        **good()["report"]["steps"], "approved again": [{"text": "Paid 500000000"}],
    }, "approved again"),
    "the reviewer's words were lost": (
        "report steps rejected 0 text", "Refused: approval_rejected too_risky", "rejected",
    ),
    "the retry opened another approval": (
        "approvals", [("ap-1", "executed"), ("ap-2", "rejected"), ("ap-3", "pending")], "approvals",
    ),
    "it was told of another approval": (
        "approvals", [("ap-1", "executed"), ("ap-9", "rejected")], "approvals",
    ),
    "both reports were made": ("report steps busy 0 text", "Report 'sales' is ready.", "busy"),
    "the flood was not retryable": (
        "report steps busy 0 text", 'Not done: overloaded {"retryable":false}', "busy",
    ),
    "a secret was printed": ("output", f"debug: {SECRETS[1]}", "secrets"),
    "a secret was on the wire": ("wire", b"Ada Brandt " + SECRETS[0].encode(), "secrets"),
    "the wire cannot be read": ("wire", b"\x1f\x8b", "secrets"),
    "no progress came": ("report progress", 0, "progress"),
    "it spoke another revision": ("calls", [("2025-06-18", 200)] * 12, "era"),
    "it spoke two": ("calls", [("2025-11-25", 200), *[(MCP.era, 200)] * 11], "era"),
    "a refused call was repeated": ("calls", [(MCP.era, 200)] * 13, "calls"),
    "a refusal was an HTTP error": ("calls", [(MCP.era, 403), *[(MCP.era, 200)] * 11], "calls"),
    "it was another version": ("report version", "0.1", "version"),
    "the refused payment happened": ("effects", [{"tool": "pay", "amount_micro_usd": 5}], "effects"),
    "a breaker moved": ("trips", ["denied"], "breakers"),
    "it is not on record": ("decided", good()["decided"][1:], "effects"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_what_went_wrong_breaks_its_promise_and_no_other(what):
    where, value, promise = SPOILT[what]
    run = good()
    *path, last = where.split()
    place: Any = run
    for part in path:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    assert broken(run) == {promise}


# -------------------------------------------------------------------------- the table and its page


def test_the_line_that_the_documentation_shows_is_code_of_the_driver():
    def bare(text: str) -> str:
        return re.sub(r",(?=[)}\]])", "", re.sub(r"\s", "", text))

    for client in CLIENTS:
        assert bare(client.adopt) in bare((HERE / client.driver).read_text()), client.name


def test_the_page_of_clients_is_what_the_table_says_now():
    docs = Path(__file__).parents[2] / "docs"
    generator = runpy.run_path(str(docs / "generate" / "clients.py"))
    assert (docs / "reference" / "clients.md").read_text() == generator["page"](), "run 'make docs'"


def test_every_driver_has_a_client_and_every_client_a_name_of_its_own():
    assert {client.driver for client in CLIENTS} == {path.name for path in HERE.glob("drive_*")}
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)
    used = {client.environment.lock for client in CLIENTS} | {NODE.lock}
    assert used == {*HERE.glob("locks/*.lock"), *HERE.glob("npm/*/package-lock.json")}


def test_ten_libraries_are_driven_and_the_common_ones_by_ci():
    assert len({(client.package, client.environment.name) for client in CLIENTS}) >= 10
    families = {client.environment.name for client in CLIENTS if client.ci}
    assert families >= {"mcp23", "mcp130", "ts1", "ts2", "inspector", "langchain"}


def test_clients_are_picked_by_the_beginning_of_their_names():
    assert [client.name for client in run.pick(["mcp23", "adk"])] == [
        "mcp23-auto", "mcp23-legacy", "mcp23-pinned", "adk",
    ]  # fmt: skip
    assert run.pick([]) == list(CLIENTS)
    assert all(client.ci for client in run.pick([], ci=True))
    assert run.pick(["mcp23", "nosuch"]) == [] and run.pick(["adk"], ci=True) == []


def test_what_cannot_be_installed_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "BUILD", tmp_path)
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    with pytest.raises(environments.NotBuilt, match="npm is not installed"):
        environments.build(NODE)
    result = run.Result(client="x", version="1", era=MCP.era, seconds=1.0, wrong={"run": None, "list": "x"})
    assert not result.kept and msgspec.structs.replace(result, wrong={"run": None}).kept
