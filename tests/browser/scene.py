"""A company at work, for pages to show: an office with tools, a gateway in front, agents, reviewers.

Real processes throughout. What waits, was decided and has tripped came about by calls over the wire.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.identity import keys
from gateway.storage.credentials import Credentials
from gateway.storage.database import Database
from tests.e2e.gateway import ROOT, Wardgate, rule

AGENTS: Final = {
    "finance-bot": {"owner": "finance-team@example.com", "labels": ["accounting"]},
    "support-bot": {"owner": "support-team@example.com", "labels": ["support"]},
    "ops-bot": {"owner": "platform-team@example.com", "labels": ["operations"], "environment": "production"},
}
OFFICE: Final = {
    "list_invoices": {"risk": "read", "domain": "finance", "integrity": "trusted"},
    "read_mail": {"risk": "read", "domain": "mail"},
    "get_customer": {"risk": "read", "domain": "customers", "integrity": "trusted", "confidentiality": 2},
    "update_customer": {"risk": "reversible", "effects": ["write"], "domain": "customers"},
    "delete_customer": {"risk": "irreversible", "effects": ["write", "delete"], "domain": "customers"},
    "export_customers": {"risk": "irreversible", "effects": ["bulk"], "domain": "customers",
                         "confidentiality": 3},
    "send_mail": {"risk": "irreversible", "effects": ["egress"], "domain": "mail", "integrity": "trusted"},
    "pay_invoice": {"risk": "irreversible", "effects": ["write", "money"], "domain": "finance",
                    "effect_key": "invoice:{invoice_id}"},
}  # fmt: skip
READS: Final = rule(
    "reads",
    'allow contains {"code": "read_allowed", "message": "reading is allowed"} if input.tool.risk == "read"',
    codes=["read_allowed"],
    scope={"tools": ["office/*"]},
)
PAYMENTS: Final = rule(
    "payments",
    """default limit := 500000000

limit := data.limits.unattended

escalate contains {"code": "amount_over_limit", "message": msg} if {
    input.tool.name == "pay_invoice"
    input.call.args.amount_micro_usd > limit
    msg := sprintf("The payment of %v micro-USD is above what is paid without a person (%v).",
        [input.call.args.amount_micro_usd, limit])
}

allow contains {"code": "small_payment", "message": "small payments need nobody"} if {
    input.tool.name == "pay_invoice"
    input.call.args.amount_micro_usd <= limit
}""",
    codes=["amount_over_limit", "small_payment"],
    severity="high",
    scope={"tools": ["office/pay_invoice"]},
)
CUSTOMERS: Final = rule(
    "customers",
    """escalate contains {"code": "customer_data", "message": "Changes of customers are looked at."} if {
    input.tool.name in {"update_customer", "delete_customer"}
}

escalate contains {"code": "leaves_the_company", "message": msg} if {
    input.tool.name == "send_mail"
    to := input.call.args.to
    not endswith(to, "@example.com")
    msg := sprintf("The mail to %v leaves the company.", [input.call.args.to])
}

allow contains {"code": "inside", "message": "mail inside the company"} if {
    input.tool.name == "send_mail"
    endswith(input.call.args.to, "@example.com")
}

deny contains {"code": "no_export", "message": "Customers are never exported as a whole.",
    "remedy": "Ask for the customers you need, one by one."} if {
    input.tool.name == "export_customers"
}""",
    codes=["customer_data", "leaves_the_company", "inside", "no_export"],
    severity="critical",
    scope={"tools": ["office/*"]},
)
CHAIN: Final = {"default": {
    "stages": [{"any": [{"who": {"roles": ["approver", "operator"]}}]}], "decide_s": 1500, "execute_s": 900,
}}  # fmt: skip
NIGHT: Final = {"night": {
    "title": "Payments at night", "openers": {"roles": ["approver", "operator"]}, "agents": ["finance-bot"],
    "tools": ["office/pay_invoice"], "chains": ["default"], "max_s": 1800, "max_uses": 3,
}}  # fmt: skip
HOSTILE: Final = (
    '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script> '
    "\x1b[31mred\x1b[0m \u202egnp.exe\u202c zero\u200bwidth pаypal"
)


class Scene:
    """Its gateway, and the people and agents around it."""

    def __init__(self, gateway: Wardgate) -> None:
        self.gateway = gateway
        self.people: dict[str, str] = {}

    def person(self, name: str, role: str) -> str:
        with Database(self.gateway.database_path).open() as database:
            made = keys.mint(Credentials(database), kind="operator", tenant="default", name=name, role=role)
        self.people[name] = made.token
        return made.token

    @property
    def console(self) -> str:
        return f"{self.gateway.admin_url}/console"

    async def call(self, agent: str, tool: str, thread: str = "", **arguments: Any) -> dict[str, Any]:
        """A call over the wire, and the whole answer."""
        headers = {"Authorization": f"Bearer {self.gateway.key(agent)}"}
        body = {"tool": f"office/{tool}", "arguments": arguments, "thread": thread}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(f"{self.gateway.agents_url}/v1/calls", json=body) as response,
        ):
            said: dict[str, Any] = await response.json()
            return said

    async def api(
        self, who: str, method: str, path: str, body: Any = None, version: int | None = None
    ) -> Any:
        headers = {"Authorization": f"Bearer {self.people[who]}"}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.request(method, self.gateway.admin_url + path, json=body) as response,
        ):
            return await response.json()

    async def decide(self, who: str, verb: str, approval: str, **said: Any) -> Any:
        found = await self.api(who, "GET", f"/v1/approvals/{approval}")
        body = {"digest": found["digest"], **said}
        return await self.api(who, "POST", f"/v1/approvals/{approval}/{verb}", body, found["version"])

    async def a_morning(self) -> dict[str, str]:
        """Some hours of work; the ids of calls that wait, by a short name."""
        await self.call("finance-bot", "list_invoices")
        await self.call("finance-bot", "read_mail", mail_id="M-2")
        await self.call("finance-bot", "send_mail", to="books@example.com", subject="Open", body="INV-204")
        pay = {"invoice_id": "INV-205", "payee": "Cloud Hosting GmbH", "amount_micro_usd": 2_450_000_000}
        paid = await self.call("finance-bot", "pay_invoice", **pay)
        await self.decide("bob", "approve", paid["approval_id"], reason="Ordered in March, PO 4711.")
        await self.call("finance-bot", "pay_invoice", **pay)
        await self.call("support-bot", "get_customer", customer_id="C-1002")
        refused = await self.call("support-bot", "delete_customer", customer_id="C-1001")
        await self.decide("bob", "reject", refused["approval_id"], reason_code="not_needed",
                          reason="She only moved; update the address instead.")  # fmt: skip
        await self.call("support-bot", "export_customers", format="csv")
        waiting = {}
        waiting["pay"] = (await self.call(
            "finance-bot", "pay_invoice", invoice_id="INV-206", payee="Consulting Partners",
            amount_micro_usd=48_000_000_000,
        ))["approval_id"]  # fmt: skip
        waiting["mail"] = (await self.call(
            "support-bot", "send_mail", to="ben.okafor@customer.example", subject="Your new tariff",
            body="Dear Ben,\n\nas agreed on the phone, your tariff is silver from May on.\n\nSupport",
        ))["approval_id"]  # fmt: skip
        for number, status in ((1001, "silver"), (1002, "gold"), (1003, "platinum")):
            waiting[f"customer {number}"] = (await self.call(
                "support-bot", "update_customer", customer_id=f"C-{number}", status=status,
            ))["approval_id"]  # fmt: skip
        waiting["delete"] = (await self.call("ops-bot", "delete_customer", customer_id="C-1003"))[
            "approval_id"
        ]
        hostile = await self.call(
            "ops-bot", "send_mail", to="audit@attacker.example", subject=HOSTILE, body="\u2066above\u2069"
        )
        waiting["hostile"] = hostile["approval_id"]
        asked = {"reason": "The bank closes at six, and nobody of finance answers.", "minutes": 15}
        await self.api("bob", "POST", "/v1/envelopes/night/ask", asked)
        stop = {"scope": "tool", "name": "office/export_customers", "reason": "Looked at after a try."}
        await self.api("ada", "POST", "/v1/breakers/trip", stop)
        return waiting


@contextmanager
def scene(folder: Path, **sections: Any) -> Iterator[Scene]:
    """Start it; ``ada`` is an operator, ``bob`` and ``cleo`` approve, ``vic`` only looks."""
    office = subprocess.Popen(
        [sys.executable, "-m", "gateway.demo.office", "--state", str(folder / "office.db")],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert office.stdout is not None
    gateway = None
    try:
        url = json.loads(office.stdout.readline())["url"]
        approvals = {"chains": CHAIN, "hold_s": 0, "envelopes": NIGHT, **sections.pop("approvals", {})}
        gateway = Wardgate(
            folder / "gateway", {"office": {"url": url, "tools": OFFICE}}, agents=AGENTS,
            trust={"enabled": True}, approvals=approvals, **sections,
        )  # fmt: skip
        for agent in ("alice", "bob"):  # of every test gateway, and not of this company
            del gateway.config["agents"][agent]
        gateway.write_config()
        (gateway.policies / "all.rego").unlink()
        for name, text in (("reads", READS), ("payments", PAYMENTS), ("customers", CUSTOMERS)):
            gateway.policy(f"{name}.rego", text)
        gateway.policy("data.yaml", "limits: {unattended: 500000000}\n")
        made = Scene(gateway)
        for name, role in (("ada", "operator"), ("bob", "approver"), ("cleo", "approver"), ("vic", "viewer")):
            made.person(name, role)
        gateway.start(timeout_s=90)
        yield made
    finally:
        if gateway is not None:
            gateway.close()
        office.kill()
        office.communicate(timeout=10)


def main() -> None:
    """Keep one running, to look at: ``python -m tests.browser.scene FOLDER``."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with scene(folder) as made:
        print(json.dumps({"console": made.console, "people": made.people}), flush=True)
        print(json.dumps(asyncio.run(made.a_morning())), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
