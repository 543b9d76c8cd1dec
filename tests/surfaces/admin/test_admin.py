"""The admin port: who may see what, how it says no, and that it answers only to its own name."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from gateway.approvals.queue import Queue, Snapshot
from gateway.approvals.store import Store
from gateway.approvals.values import Settings
from gateway.clock import SystemClock
from gateway.errors import ConfigError, JournalError, Refused, StateError, Unauthenticated
from gateway.identity import keys
from gateway.identity.directory import Directory
from gateway.model import Manifest, Tool
from gateway.reasons import REASONS
from gateway.reviews import Reviews
from gateway.sessions.budgets import Account
from gateway.sessions.provenance import Prints
from gateway.sessions.session import Session, Whose
from gateway.sessions.view import seen
from gateway.standing.views import described
from gateway.state.sessions import NO_MONITORS
from gateway.storage.credentials import Credentials
from gateway.storage.database import Database
from gateway.surfaces.admin import (
    Accepted,
    AdminDeps,
    DecisionFilter,
    DecisionPage,
    InForce,
    IssuerState,
    PartState,
    ShadowState,
    UpstreamState,
    create_admin,
)
from gateway.trust.account import Account as TrustAccount
from gateway.trust.settings import Settings as TrustSettings
from tests.approvals.support import KEY, one_stage, opening
from tests.play import AGENT, Stage

CALL = "0193a5b2-7c1e-7d4e-9f2a-3b1c5d7e9f01"
ROLES = ("viewer", "approver", "policy-admin", "operator")


class Records:
    """Ten calls of tenant "default" and one of another; pages like the journal's."""

    def __init__(self) -> None:
        self.asked: list[DecisionFilter] = []
        self.broken = False

    def list(self, which, limit, cursor):
        if self.broken:
            raise JournalError("journal_unavailable", "disk gone: /secret/path")
        self.asked.append(which)
        start = int(cursor or 0)  # ValueError for a foreign cursor
        mine = [n for n in range(10) if which.tenant == "default"]
        items = [_item(n) for n in mine[start : start + limit]]
        return DecisionPage(items=items, cursor=str(start + limit) if start + limit < len(mine) else None)

    def show(self, tenant, call_id):
        return _item(1) | {"tenant": tenant} if (tenant, call_id) == ("default", CALL) else None


class Sessions:
    """There is one; what they do is tested through the running gateway."""

    def knows(self, tenant, agent):
        return False

    async def listed(self, tenant, agent, *, closed, limit, after):
        return [], None

    async def shown(self, tenant, session):
        if tenant != "default":
            raise Refused("no_such_session")
        whose = Whose(id=session, tenant=tenant, agent="bot", opened_ns=10**18)
        session = Session(whose, None, Account(opened_ns=10**18), Prints(b"key"), b"key", NO_MONITORS)
        return seen(session, 10**18, {})

    async def act(self, operator, **what):
        raise Refused("no_such_session")


async def unsigned(name, key_id, at, signature, body):
    """Scores that nobody signed."""
    raise Unauthenticated("bad_credential", name)


class Envelopes:
    """None is declared."""

    async def declared(self, operator):
        return []

    async def opened(self, operator):
        return []


class Trust:
    """One agent of which nothing is known yet; the desk itself is tested elsewhere."""

    async def listed(self, tenant, agent=None):
        return []

    async def show(self, where):
        return described(where, TrustAccount(tier=1), [], [], None, 1, TrustSettings())

    async def history(self, where):
        return {"events": [], "curve": []}


class Breakers:
    """Nothing is stopped, and one trip was; the desk itself is tested through the running gateway."""

    async def breakers(self, tenant):
        return []

    async def kills(self, tenant):
        return []

    async def trips(self, tenant, agent, limit):
        return []

    async def trip(self, tenant, trip):
        if (tenant, trip) != ("default", "trip-1"):
            return None
        return {
            "id": trip, "at_ns": 10**18, "scope": "session", "name": "bot", "part": "s-1", "agent": "bot",
            "session": "s-1", "detector": "repeat", "statistic": 5.0, "threshold": 5.0, "before": "closed",
            "after": "open", "sentence": "the same call 5 times in a row", "calls": [CALL],
            "since_ns": 10**18, "until_ns": 0, "person": False, "observed": False, "spared": False,
            "by": "gateway",
        }  # fmt: skip


def _item(n):
    return {
        "call_id": CALL,
        "at_ns": 1_795_428_000_000_000_000,
        "agent": f"bot{n}",
        "verdict": "deny",
        "action": "block",
        "code": "no_rule_allows",
        "args_mac": "not shown: not declared",
    }


class Office:
    """An admin app over real keys, and what can be changed about it."""

    def __init__(self, directory: Directory, tokens: dict[str, str], desk: Reviews, approval: str) -> None:
        self.approval = approval
        self.tokens = tokens
        self.refused: list[tuple[str, str]] = []
        self.records = Records()
        self.parts = {
            "policy": PartState(state="ok", essential=True),
            "journal": PartState(state="ok", essential=True),
            "upstream:git": PartState(state="degraded", detail="restarting: secret detail"),
        }
        self.accepted: list[Accepted] = []
        self.accept_error: Exception | None = None
        self.reload_error: Exception | None = None
        self.issuer = IssuerState(
            name="corp", issuer="https://login.example.com", state="stale", keys=2, fetched_ns=10**18
        )
        self.revocation = {
            "id": "r1", "tenant": "default", "kind": "subject", "issuer": "corp", "value": "user-1",
            "issued_before_ns": None, "created_ns": 10**18, "lifted_ns": None, "note": "left",
        }  # fmt: skip
        self.reloads = 0
        tools = [
            Tool(
                kind="tool",
                upstream=upstream,
                name=name,
                target=f"{upstream}/{name}",
                manifest=Manifest(risk="read", effects=("egress",)),
                schema_hash="h",
            )
            for upstream, name in (("git", "log"), ("git", "push"), ("bank", "pay"))
        ]
        self.app = create_admin(
            AdminDeps(
                version="0.1.0",
                allowed_hosts=("gate.example",),
                authenticate=directory.operator,
                refused=lambda code, surface: self.refused.append((code, surface)),
                ready=lambda: self.parts,
                metrics=lambda accept: ("text/plain; version=0.0.4; charset=utf-8", f"# {accept}\n".encode()),
                status=lambda: InForce(
                    revisions={"catalog": "c1", "policy": "p1"},
                    started_ns=time.time_ns() - 5_000_000_000,
                    in_flight=2,
                    mode="observe",
                    controls=("breakers:absent",),
                ),
                tools=lambda: tools,
                upstreams=lambda: [
                    UpstreamState(name="git", transport="stdio", state="ok", mode="enforce", tools=2)
                ],
                issuers=lambda tenant: [self.issuer] if tenant == "default" else [],
                revocations=lambda tenant: [self.revocation] if tenant == "default" else [],
                shadow=lambda tenant: self.shadow(tenant),
                decisions=self.records,
                sessions=Sessions(),
                accept=self.accept,
                reload=self.reload,
                approvals=desk,
                breakers=Breakers(),
                envelopes=Envelopes(),
                scores=unsigned,
                trust=lambda: Trust(),
            )
        )

    def shadow(self, tenant):
        difference = {
            "at_ns": 1_700_000_000_000_000_000, "call_id": "c", "agent": "a", "target": "bank/pay",
            "change": "tightened", "verdict": "allow", "code": "fine", "candidate_verdict": "deny",
            "candidate_code": "limit", "rule": "payments.limit", "active": "r1", "candidate": "r2",
            "tenant": tenant,
        }  # fmt: skip
        change = {"change": "tightened", "rule": "payments.limit", "target": "bank/pay", "calls": 1}
        return ShadowState(
            active_revision="r1", active_origin="policies", active_part="configured",
            candidate_revision="r2", candidate_origin="next", percent=10, failure="",
            counts={"same": 9, "tightened": 1}, recorded={}, changes=[change] if tenant == "default" else [],
            differences=[difference] if tenant == "default" else [],
        )  # fmt: skip

    async def accept(self, accepted):
        if self.accept_error is not None:
            raise self.accept_error
        self.accepted.append(accepted)

    async def reload(self):
        if self.reload_error is not None:
            raise self.reload_error
        self.reloads += 1
        return {"policy": "p2"}

    async def ask(self, path, role="viewer", method="GET", headers=None, json=None):
        sent = dict(headers or {})
        if role is not None:
            sent.setdefault("authorization", f"Bearer {self.tokens[role]}")
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8701") as client:
            return await client.request(method, path, headers=sent, json=json)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory) -> Iterator[tuple[Directory, dict[str, str], Reviews, str]]:
    with Database(tmp_path_factory.mktemp("admin") / "keys.db").open() as database:
        store = Credentials(database)
        minted = {
            role: keys.mint(store, kind="operator", tenant="default", name=role, role=role) for role in ROLES
        }
        minted["stranger"] = keys.mint(store, kind="operator", tenant="other", name="eve", role="operator")
        minted["agent"] = keys.mint(store, kind="agent", tenant="default", name="bot")
        minted["revoked"] = keys.mint(store, kind="operator", tenant="default", name="gone", role="operator")
        directory = Directory(time.time_ns)
        stored = [
            msgspec.structs.replace(key.credential, revoked_ns=1) if who == "revoked" else key.credential
            for who, key in minted.items()
        ]
        directory.load(stored, {}, "enforce")
        desk, approval = waiting_room(database)
        yield directory, {who: key.token for who, key in minted.items()}, desk, approval


def waiting_room(database: Database) -> tuple[Reviews, str]:
    """A desk on a real store in which one call waits."""
    store = Store(database, KEY, Settings(chains={"default": one_stage()}))
    stage = Stage()
    queue = Queue(
        store,
        clock=SystemClock(),
        policy_revision=lambda: "r1",
        owner_of=lambda tenant, agent: None,
        unenforced=lambda stage, reason: None,
        noticed=lambda notice: None,
    )
    facts = msgspec.json.encode(Snapshot(principal=AGENT)).decode()
    opened = store.open(opening(facts_json=facts)).approval
    return Reviews(queue, stage.parts, lambda decision, seconds: None, lambda name: None), opened.id


@pytest.fixture
def office(credentials) -> Office:
    return Office(*credentials)


def operations(office):
    return [
        (
            method.upper(),
            path.replace("{call_id}", CALL)
            .replace("{session}", "s-1")
            .replace("{trip}", "trip-1")
            .replace("{agent}/{domain}", "bot/payments")
            .replace("{agent}", "bot")
            .replace("{approval_id}", office.approval),
        )
        for path, item in office.app.openapi()["paths"].items()
        for method in item
    ]


# -- probes and metrics -----------------------------------------------------------------------------------


async def test_probes_need_no_credential(office):
    assert (await office.ask("/livez", role=None)).json() == {"status": "ok"}
    answer = await office.ask("/readyz", role=None)
    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "parts": {"policy": "ok", "journal": "ok", "upstream:git": "degraded"},
    }
    assert "secret detail" not in answer.text


@pytest.mark.parametrize(("part", "status"), [("policy", 503), ("journal", 503), ("upstream:git", 200)])
async def test_only_policy_and_journal_make_it_not_ready(office, part, status):
    essential = office.parts[part].essential
    office.parts[part] = PartState(state="down", essential=essential)
    answer = await office.ask("/readyz", role=None)
    assert answer.status_code == status and answer.json()["parts"][part] == "down"
    assert (await office.ask("/livez", role=None)).status_code == 200


async def test_metrics_are_negotiated_and_not_redirected(office):
    answer = await office.ask("/metrics", role=None, headers={"accept": "application/openmetrics-text"})
    assert answer.status_code == 200 and answer.text == "# application/openmetrics-text\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_public_keys_of_assertions_are_open(office):
    answer = await office.ask("/.well-known/wardgate/jwks.json", role=None)
    assert (answer.status_code, answer.json()) == (200, {"keys": []})


# -- who --------------------------------------------------------------------------------------------------


async def test_everything_else_needs_an_operator(office):
    for method, path in operations(office):
        if path in ("/livez", "/readyz", "/metrics", "/.well-known/wardgate/jwks.json"):
            continue
        if path.startswith(("/v1/callbacks/", "/v1/scores/")):  # signed by who calls
            assert (await office.ask(path, role=None, method=method)).status_code == 401
            continue
        answer = await office.ask(path, role=None, method=method)
        assert (answer.status_code, answer.json()["code"]) == (401, "no_credential"), path
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert office.reloads == 0 and ("no_credential", "admin") in office.refused


@pytest.mark.parametrize(("who", "code"), [("agent", "bad_credential"), ("revoked", "revoked_credential")])
async def test_the_keys_of_agents_and_the_revoked_open_nothing(office, who, code):
    answer = await office.ask("/v1/status", role=who)
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert (code, "admin") in office.refused


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_reads(office, role):
    for method, path in operations(office):
        if method == "GET":
            assert (await office.ask(path, role=role)).status_code == 200, path


@pytest.mark.parametrize("role", ROLES)
async def test_only_an_operator_reloads(office, role):
    answer = await office.ask("/v1/reload", role=role, method="POST")
    if role == "operator":
        assert answer.json() == {"revisions": {"policy": "p2"}} and office.reloads == 1
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_role")
        assert office.reloads == 0


@pytest.mark.parametrize("role", ROLES)
async def test_only_operators_and_policy_admins_accept_a_definition(office, role):
    body = {"upstream": "git", "name": "log", "hash": "a" * 64}
    answer = await office.ask("/v1/tools/accept", role=role, method="POST", json=body)
    if role in ("operator", "policy-admin"):
        assert answer.status_code == 200 and answer.json()["target"] == "git/log"
        (accepted,) = office.accepted
        assert (accepted.kind, accepted.hash, accepted.by) == ("tool", "a" * 64, role)
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_role")
        assert office.accepted == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("definition_changed"), 409),
        (Refused("not_found"), 404),
        (StateError("state_unavailable", "disk gone: /secret/path"), 503),
    ],
)
async def test_a_definition_that_cannot_be_accepted_is_said_so(office, error, status):
    office.accept_error = error
    body = {"upstream": "git", "name": "log", "hash": "a" * 64}
    answer = await office.ask("/v1/tools/accept", role="operator", method="POST", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, error.code)
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "wrong", [{"hash": "a" * 12}, {"hash": None}, {"kind": "thing"}, {"extra": 1}, {"name": "x" * 3000}]
)
async def test_a_definition_is_named_whole_or_not_at_all(office, wrong):
    body = {"upstream": "git", "name": "log", "hash": "a" * 64, **wrong}
    answer = await office.ask("/v1/tools/accept", role="operator", method="POST", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert office.accepted == []


async def test_an_operator_sees_only_the_calls_of_his_tenant(office):
    assert (await office.ask("/v1/decisions", role="stranger")).json()["items"] == []
    assert (await office.ask(f"/v1/decisions/{CALL}", role="stranger")).status_code == 404
    assert {which.tenant for which in office.records.asked} == {"other"}


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8701", "localhost", "LOCALHOST:8701", "[::1]:8701", "10.2.3.4:8701", "gate.example"]
)
async def test_it_answers_to_its_own_names_and_to_addresses(office, host):
    assert (await office.ask("/livez", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8701",
        "127.0.0.1.evil.example",
        "localhost@evil",
        "",
        "127.0.0.1:x",
        "[::1",
    ],
)
async def test_a_page_that_rebinds_its_name_is_refused(office, host):
    for path in ("/livez", "/metrics", "/v1/status"):
        answer = await office.ask(path, headers={"host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "origin_refused")


async def test_a_foreign_origin_is_refused_and_nobody_is_invited(office):
    answer = await office.ask("/v1/reload", role="operator", method="POST", headers={"origin": "http://evil"})
    assert answer.status_code == 421 and office.reloads == 0
    answer = await office.ask("/v1/status", headers={"origin": "http://127.0.0.1:8701"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


# -- what it says -----------------------------------------------------------------------------------------


async def test_decisions_come_in_pages_newest_first(office):
    first = (await office.ask("/v1/decisions?limit=4")).json()
    second = (await office.ask(f"/v1/decisions?limit=4&cursor={first['cursor']}")).json()
    last = (await office.ask(f"/v1/decisions?limit=4&cursor={second['cursor']}")).json()
    agents = [item["agent"] for page in (first, second, last) for item in page["items"]]
    assert agents == [f"bot{n}" for n in range(10)] and last["cursor"] is None


async def test_filters_reach_the_journal(office):
    query = "agent=bot&tool=git/log&verdict=deny&action=block&code=x&in_doubt=true&session=s"
    await office.ask(f"/v1/decisions?{query}&since=2026-11-23T10:00:00Z&until=2026-11-23T12:00:00%2B02:00")
    [asked] = office.records.asked
    assert (asked.agent, asked.tool, asked.verdict, asked.action) == ("bot", "git/log", "deny", "block")
    assert (asked.code, asked.in_doubt, asked.session) == ("x", True, "s")
    assert asked.since_ns == asked.until_ns == 1_795_428_000_000_000_000


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "verdict=maybe", "since=yesterday", "cursor=CANARY", "agent=" + "x" * 501],
)
async def test_a_bad_question_is_a_clear_answer(office, query):
    answer = await office.ask(f"/v1/decisions?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "CANARY" not in answer.text and "x" * 20 not in answer.text


async def test_only_declared_fields_of_a_record_are_shown(office):
    answer = await office.ask(f"/v1/decisions/{CALL}")
    assert answer.json()["code"] == "no_rule_allows" and "not shown" not in answer.text


async def test_a_journal_that_cannot_be_read_is_said_so_without_its_path(office):
    office.records.broken = True
    answer = await office.ask("/v1/decisions")
    assert (answer.status_code, answer.json()["code"]) == (503, "journal_unavailable")
    assert "/secret/path" not in answer.text


async def test_tools_can_be_filtered_and_paged(office):
    page = (await office.ask("/v1/tools?limit=2")).json()
    assert [tool["target"] for tool in page["items"]] == ["bank/pay", "git/log"]
    assert page["revision"] == "c1"
    rest = (await office.ask("/v1/tools", headers={})).json()["items"]
    assert len(rest) == 3
    after = (await office.ask(f"/v1/tools?limit=2&cursor={page['cursor']}")).json()
    assert [tool["target"] for tool in after["items"]] == ["git/push"] and after["cursor"] is None
    git = (await office.ask("/v1/tools?upstream=git")).json()["items"]
    assert [tool["name"] for tool in git] == ["log", "push"] and git[0]["effects"] == ["egress"]


async def test_status_says_what_is_in_force_and_what_is_not_there(office):
    status = (await office.ask("/v1/status")).json()
    assert status["revisions"] == {"catalog": "c1", "policy": "p1"}
    assert status["controls"] == ["breakers:absent"] and status["in_flight"] == 2 and status["uptime_s"] >= 5
    assert status["parts"]["upstream:git"]["detail"].startswith("restarting")


async def test_every_reason_code_can_be_looked_up(office):
    items = (await office.ask("/v1/reasons")).json()["items"]
    assert {item["code"] for item in items} == set(REASONS)


async def test_a_configuration_that_is_not_valid_is_refused_with_its_reason(office):
    office.reload_error = ConfigError("server.port: not a number")
    answer = await office.ask("/v1/reload", role="operator", method="POST")
    assert (answer.status_code, answer.json()["code"]) == (409, "reload_refused")
    assert answer.json()["detail"] == "server.port: not a number"


async def test_a_bug_shows_nothing_of_itself(office):
    office.reload_error = RuntimeError("CANARY")
    answer = await office.ask("/v1/reload", role="operator", method="POST")
    assert (answer.status_code, answer.json()["code"]) == (500, "gateway_error")
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("DELETE", "/livez", 405), ("GET", "/livez/", 404)],
)
async def test_what_is_not_there_is_a_problem_too(office, method, path, status):
    answer = await office.ask(path, method=method)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"


async def test_the_description_is_a_page_that_loads_nothing(office):
    page = await office.ask("/docs", role=None)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for forbidden in ("<script", "<link", "<img", "src=", "http://", "https://", "@import", "url("):
        assert forbidden not in page.text
    for _, path in operations(office):
        shown = path.replace(CALL, "{call_id}").replace("s-1", "{session}").replace("trip-1", "{trip}")
        shown = shown.replace("bot/payments", "{agent}/{domain}").replace("/bot", "/{agent}")
        assert shown.replace(office.approval, "{approval_id}") in page.text


async def test_the_style_of_the_page_is_the_one_its_policy_allows(office):
    page = await office.ask("/docs", role=None)
    style = page.text.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]


async def test_every_answer_says_that_it_is_not_to_be_kept_or_guessed(office):
    for path in ("/livez", "/v1/status", "/nothing", "/docs"):
        headers = (await office.ask(path)).headers
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"


async def test_the_description_is_published_with_examples_and_problems(office):
    document = (await office.ask("/openapi.json", role=None)).json()
    status = document["paths"]["/v1/status"]["get"]
    assert status["security"]
    assert list(status["responses"]["401"]["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["Decision"]["properties"]["agent"]["examples"] == ["release-bot"]


async def test_an_operator_sees_the_issuers_and_revocations_of_its_own_tenant(office):
    [issuer] = (await office.ask("/v1/issuers")).json()["items"]
    assert (issuer["name"], issuer["state"], issuer["keys"]) == ("corp", "stale", 2)
    assert issuer["fetched"] == "2001-09-09T01:46:40Z"
    [revoked] = (await office.ask("/v1/tokens/revocations")).json()["items"]
    assert (revoked["kind"], revoked["value"], revoked["issued_before"]) == ("subject", "user-1", None)
    for path in ("/v1/issuers", "/v1/tokens/revocations"):
        assert (await office.ask(path, "stranger")).json()["items"] == []
        assert (await office.ask(path, None)).status_code == 401
        assert (await office.ask(path, "agent")).status_code == 401


async def test_an_operator_sees_where_a_candidate_policy_differs_for_its_own_tenant(office):
    found = (await office.ask("/v1/policy/shadow")).json()
    assert found["counts"] == {"same": 9, "tightened": 1} and found["percent"] == 10
    assert [each["calls"] for each in found["changes"]] == [1]
    assert (found["differences"][0]["at"], found["differences"][0]["rule"]) == (
        "2023-11-14T22:13:20Z", "payments.limit",
    )  # fmt: skip
    assert (await office.ask("/v1/policy/shadow", "stranger")).json()["differences"] == []
    assert (await office.ask("/v1/policy/shadow", "agent")).status_code == 401
