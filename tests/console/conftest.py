"""The console over a real store, keys and policy, without processes: asked as a browser would ask."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import unescape

import httpx
import msgspec
import pytest

from gateway.approvals.queue import Queue, Snapshot
from gateway.approvals.store import Store
from gateway.approvals.values import Settings
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.identity import keys
from gateway.identity.directory import Directory
from gateway.looking import Looking
from gateway.overview import holder
from gateway.policy import load
from gateway.reviews import Reviews
from gateway.storage.console import EndedSignIns
from gateway.storage.credentials import Credentials
from gateway.storage.database import Database
from gateway.storage.pins import Pins
from gateway.surfaces.admin import AdminDeps, DecisionPage, InForce, PartState, ShadowState, create_admin
from gateway.surfaces.console import ConsoleDeps, Terms, create_console
from tests.approvals.support import KEY, one_stage, opening
from tests.e2e.gateway import ALLOW_ALL
from tests.play import AGENT, Stage, tool
from tests.storage.at import at

ROLES = {"ann": "approver", "bob": "approver", "olga": "operator", "vic": "viewer", "pat": "policy-admin"}
ALICE = msgspec.structs.replace(AGENT, tenant="default", agent="alice", owner="team-a")
BASE = "http://127.0.0.1:8701"
CALL = "0193a5b2-7c1e-7d4e-9f2a-3b1c5d7e9f01"


ITEM = {
    "call_id": CALL, "at_ns": 1_795_428_000_000_000_000, "agent": "bot", "target": "bank/pay",
    "verdict": "deny", "action": "block", "code": "no_rule_allows", "session": "s-1", "phase": "refused",
    "risk": "irreversible",
}  # fmt: skip


class Records:
    """One call on record."""

    def list(self, which, limit, cursor):
        return DecisionPage(items=[ITEM] if which.tenant == "default" else [], cursor=None)

    def show(self, tenant, call_id):
        wanted = (tenant, call_id) == ("default", CALL)
        step = {"phase": "refused", "at_ns": ITEM["at_ns"]}
        return {**ITEM, "tenant": tenant, "history": [step]} if wanted else None


class Sessions:
    async def listed(self, tenant, agent, *, closed, limit, after):
        return [], None


class Breakers:
    """What people do is noted; the desk itself is tested elsewhere."""

    def __init__(self):
        self.done = []

    async def breakers(self, tenant):
        return []

    async def kills(self, tenant):
        return []

    async def trips(self, tenant, agent, limit):
        return []

    async def trip(self, tenant, trip):
        return None

    async def act(self, act, scope, tenant, name, part, reason, by):
        self.done.append((act, scope, tenant, name, part, reason, by))

    async def kill(self, scope, tenant, name, reason, by):
        self.done.append(("kill", scope, tenant, name, reason, by))
        return {"id": "k1", "scope": scope, "name": name, "reason": reason, "by": by, "at_ns": 1}


class Glass:
    """One envelope; opening it is tested through the running gateway."""

    opening = None

    def __init__(self):
        self.done = []

    async def declared(self, operator):
        return [{
            "name": "night", "title": "At night", "openers": "group oncall", "agents": ["bot"],
            "owners": ["team-a"], "tools": ["bank/*"], "chains": ["default"], "max_s": 1800, "max_uses": 5,
            "opening": self.opening,
        }]  # fmt: skip

    async def opened(self, operator):
        return [self.opening] if self.opening else []

    async def ask(self, operator, name, reason, minutes):
        self.done.append(("ask", operator.name, name, reason, minutes))
        return self.opening

    async def second(self, operator, opening_id):
        self.done.append(("second", operator.name, opening_id))
        return self.opening


class Uncounted:
    def approval_decided(self, decision, seconds):
        pass

    def reviewed(self, decision, kind, seconds):
        pass

    def incident(self):
        pass


class House:
    """The console, its people, and calls that wait."""

    def __init__(self, database: Database, bundle) -> None:
        self.database = database
        self.now_ns = time.time_ns
        self.terms = Terms()
        self.people = None
        self.oidc = None
        self.refused: list[tuple[str, str]] = []
        self.breakers = Breakers()
        self.glass = Glass()
        self.minted = {}
        credentials = Credentials(database)
        for name, role in ROLES.items():
            self.minted[name] = keys.mint(
                credentials, kind="operator", tenant="default", name=name, role=role
            )
        self.minted["eve"] = keys.mint(
            credentials, kind="operator", tenant="other", name="eve", role="operator"
        )
        self.minted["bot"] = keys.mint(credentials, kind="agent", tenant="default", name="bot")
        self.directory = Directory(lambda: self.now_ns())
        self.credentials = {each.credential.id: each.credential for each in self.minted.values()}
        self.directory.load(self.credentials.values(), {}, "enforce")
        self.store = Store(
            database, KEY, Settings(chains={"default": one_stage()}, max_pending_per_agent=1000)
        )
        self.stage = Stage(tool=tool(risk="reversible"))
        queue = Queue(
            self.store, clock=SystemClock(), policy_revision=lambda: "r1",
            owner_of=lambda tenant, agent: None, unenforced=lambda stage, reason: None,
            noticed=lambda notice: None,
        )  # fmt: skip
        parts = self.stage.parts()
        self.desk = Reviews(queue, lambda: parts, Uncounted(), lambda name: None)
        self.look = Looking(
            queue, KEY, Pins(database), parts=lambda: parts, bundle=lambda: bundle, config=Config
        )
        admin = AdminDeps(
            version="0.1.0", allowed_hosts=("gate.example",), authenticate=self.directory.operator,
            refused=lambda code, surface: self.refused.append((code, surface)),
            ready=lambda: {"policy": PartState(state="ok", essential=True)},
            metrics=lambda accept: ("text/plain", b""),
            status=lambda: InForce(revisions={"policy": "r1"}, started_ns=1, in_flight=0, mode="enforce"),
            tools=list, upstreams=list, issuers=lambda tenant: [], revocations=lambda tenant: [],
            shadow=lambda tenant: ShadowState(
                active_revision="r1", active_origin="policies", active_part="configured",
                candidate_revision="", candidate_origin="", percent=0, failure="", counts={}, recorded={},
                changes=[], differences=[],
            ),
            decisions=Records(), sessions=Sessions(), accept=None, reload=None, approvals=self.desk,
            breakers=self.breakers, envelopes=self.glass,
        )  # fmt: skip
        self.console = ConsoleDeps(
            admin=admin, key=bytes(range(32)), now_ns=lambda: self.now_ns(), terms=lambda: self.terms,
            holder=lambda found: holder(self.directory, self.oidc, found), look=self.look,
            sign_ins=EndedSignIns(database), people=lambda: self.people,
        )  # fmt: skip
        self.app = create_admin(admin, create_console(self.console))
        self._opened = 0

    def opens(self, **said):
        """A call that waits."""
        self._opened += 1
        facts = msgspec.json.encode(Snapshot(principal=ALICE)).decode()
        digest = f"{self._opened:064x}"
        wanted = opening(facts_json=facts, **{"asked_digest": digest, "digest": digest, **said})
        return self.store.open(wanted).approval

    def revoke(self, name: str) -> None:
        key = self.minted[name].credential
        self.credentials[key.id] = msgspec.structs.replace(key, revoked_ns=1)
        self.directory.load(self.credentials.values(), {}, "enforce")


class Browser:
    """Somebody at a browser: cookies, and the headers a browser sends by itself."""

    def __init__(self, house: House, base: str = BASE) -> None:
        self.house = house
        self.base = base
        transport = httpx.ASGITransport(house.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url=base, follow_redirects=False)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(f"/console{path}", headers=headers)

    async def post(self, path: str, data=None, **headers: str) -> httpx.Response:
        kind = "application/x-www-form-urlencoded"  # with an empty form too
        sent = {"sec-fetch-site": "same-origin", "origin": self.base, "content-type": kind, **headers}
        sent = {name: value for name, value in sent.items() if value}
        return await self.http.post(f"/console{path}", data=data or {}, headers=sent)

    async def sign_in(self, name: str) -> Browser:
        answer = await self.post("/login", {"key": self.house.minted[name].token})
        assert answer.status_code == 303, answer.text
        return self

    async def page(self, path: str) -> str:
        answer = await self.get(path)
        assert answer.status_code == 200, (answer.status_code, answer.text[-400:])
        return answer.text


def text_of(page: str) -> str:
    """What a person reads of a page, on one line."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[Database]:
    with at(tmp_path_factory.mktemp("console") / "w.db").open() as opened:
        yield opened


@pytest.fixture(scope="module")
def house(database, tmp_path_factory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "all.rego").write_text(ALLOW_ALL)
    made = House(database, load(folder).bundle)
    yield made
    made.look.close()


@pytest.fixture(autouse=True)
def clean(request):
    """Time and keys as they were, whatever a test did to them."""
    if "house" not in request.fixturenames:
        yield
        return
    house = request.getfixturevalue("house")
    yield
    house.now_ns = time.time_ns
    house.terms = Terms()
    house.people = house.oidc = None
    house.credentials = {each.credential.id: each.credential for each in house.minted.values()}
    house.directory.load(house.credentials.values(), {}, "enforce")
