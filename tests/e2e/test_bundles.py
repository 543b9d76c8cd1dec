"""Bundles through ``wardgate serve``: what is vouched for decides; whatever else comes, the last good one."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from gateway.policy import archive
from tests.e2e.bundling import BundleServer, bundle_server
from tests.e2e.gateway import ALLOW_ALL, DENY_ALL, Wardgate, eventually, rule, talking
from tests.policy.bundles import pair, signed

ALLOW = {"all.rego": ALLOW_ALL.encode()}
DENY = {"all.rego": DENY_ALL.encode()}
CLOCK = rule("all", 'deny contains {"code": "late"} if time.now_ns() > 1', codes=["late"])
EVERY_S = 0.2


@pytest.fixture
async def bundles() -> AsyncIterator[BundleServer]:
    async with bundle_server() as running:
        running.raw = signed(ALLOW)
        yield running


@pytest.fixture
def fetching(gateway: Callable[..., Wardgate], bundles: BundleServer, tmp_path) -> Callable[..., Wardgate]:
    """Makes gateways that fetch their policy from ``bundles``."""
    key = tmp_path / "release.pub"
    key.write_bytes(pair("ES256")[1].material)

    def make(**source: Any) -> Wardgate:
        verify = {"keys": {"release": {"algorithm": "ES256", "file": str(key)}}}
        section = {
            "url": bundles.url, "every_s": EVERY_S, "timeout_s": 2, "verify": verify, **source,
        }  # fmt: skip
        running = gateway(policy={"source": section})
        del running.config["policy"]["path"]
        running.write_config()
        return running

    return make


async def started(running: Wardgate) -> Wardgate:
    """Started in a thread, because the server it asks is on this loop."""
    await asyncio.to_thread(running.start)
    return running


async def ready(running: Wardgate) -> dict[str, Any]:
    """The policy part of the operator's status."""
    if not hasattr(running, "operator"):
        running.operator = await running.new_operator()
    headers = {"authorization": f"Bearer {running.operator}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        while True:
            async with http.get(f"{running.admin_url}/v1/status") as answer:
                if answer.status == 200:
                    return (await answer.json())["parts"]["policy"]
                assert answer.status == 401, await answer.text()
            await asyncio.sleep(0.1)  # a new key is known within a second


async def metrics(running: Wardgate) -> dict[str, float]:
    async with aiohttp.ClientSession() as http, http.get(f"{running.admin_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] != "#"}


async def test_a_new_bundle_decides_as_soon_as_it_is_served_and_is_named_in_every_record(fetching, bundles):
    running = await started(fetching(token="sesame"))
    async with talking(running, running.key()) as alice:
        assert (await alice.call("look")).text == "done"
        await eventually(lambda: any(status == 304 for status, _, _ in bundles.asked))
        assert {token for _, _, token in bundles.asked} == {"Bearer sesame"}
        bundles.raw = signed(DENY)
        await eventually(lambda: "reloaded" in running.log(), 15)
        assert (await alice.call("look")).reason == "closed"
    allowed = await running.recorded(lambda record: record.get("verdict") == "allow")
    denied = await running.recorded(lambda record: record.get("verdict") == "deny")
    revisions = {each["in_force"]["policy_revision"] for each in running.exported() if each.get("verdict")}
    assert len(revisions) == 2 and allowed["in_force_ref"] != denied["in_force_ref"]
    assert "tried on recorded calls" in running.log(), running.log()
    assert "1 tightened" in running.log(), running.log()


SERVED_BADLY = {
    # how: (what is served instead, how the server misbehaves, what is said, the result counted)
    "unsigned": (lambda: archive.write(DENY), "", "no .signatures.json", "unverified"),
    "tampered": (
        lambda: archive.write({**archive.read(signed(ALLOW)).files, "all.rego": DENY_ALL.encode()}),
        "", "all.rego: is not the file that was signed", "unverified",
    ),
    "signed by somebody else": (lambda: signed(DENY, "ES384"), "", "is for ES256", "unverified"),
    "expired": (lambda: signed(DENY, exp=int(time.time()) - 100), "", "has expired", "unverified"),
    "for another scope": (lambda: signed(DENY, scope="test"), "", "scope 'test'", "unverified"),
    "a bomb": (lambda: gzip.compress(bytes(archive.MAX_UNPACKED + 1)), "", "unpacks", "unverified"),
    "no gzip": (lambda: b"<html>login</html>", "", "not a gzipped tar", "unverified"),
    "does not parse": (
        lambda: signed({"all.rego": rule("all", "deny contains {").encode()}), "", "all.rego:", "refused",
    ),
    "fails its own test": (
        lambda: signed({**DENY, "all_test.rego": b"package all_test\nimport rego.v1\ntest_it if false\n"}),
        "", "all_test.rego:3: the test all_test.test_it fails", "refused",
    ),
    "reads the clock": (
        lambda: signed({"all.rego": CLOCK.encode()}),
        "", "'time.now_ns' is refused", "refused",
    ),
    "404": (lambda: signed(DENY), "404", "HTTP 404", "unreachable"),
    "500": (lambda: signed(DENY), "500", "HTTP 500", "unreachable"),
    "304 to nobody's question": (lambda: signed(DENY), "304", "", "unchanged"),
    "a redirect": (lambda: signed(DENY), "302", "redirects are not followed", "unreachable"),
    "hangs": (lambda: signed(DENY), "hangs", "no whole answer within 2 s", "unreachable"),
    "drips": (lambda: signed(DENY), "drips", "no whole answer within 2 s", "unreachable"),
    "truncated": (lambda: signed(DENY), "truncated", "RemoteProtocolError", "unreachable"),
    "endless": (lambda: signed(DENY), "endless", "more than", "unreachable"),
}  # fmt: skip


@pytest.mark.slow
async def test_whatever_is_served_badly_the_last_good_policy_decides_and_what_is_wrong_is_said(
    fetching, bundles
):
    running = await started(fetching())
    series = 'wardgate_bundle_checks_total{{result="{}"}}'.format
    good = bundles.raw
    async with talking(running, running.key()) as alice:
        for how, (make, fault, says, result) in SERVED_BADLY.items():
            before = (await metrics(running))[series(result)]
            bundles.raw, bundles.fault = make(), fault
            deadline = time.monotonic() + 20
            while (await metrics(running))[series(result)] < before + 1:
                assert time.monotonic() < deadline, (how, running.log()[-2000:])
                assert (await alice.call("look")).text == "done", how
                await asyncio.sleep(0.05)
            part = await ready(running)
            if says:
                assert part["state"] == "degraded", how
                assert says in part["detail"], (how, part["detail"])
                assert "the last good one decides" in part["detail"]
            assert (await alice.call("look")).text == "done", how
            bundles.raw, bundles.fault = good, ""
            await _until_ok(running)
        bundles.raw = signed(DENY)
        await eventually(lambda: "reloaded" in running.log(), 15)
        assert (await alice.call("look")).reason == "closed"


async def _until_ok(running: Wardgate) -> None:
    deadline = time.monotonic() + 10
    while (await ready(running))["state"] != "ok":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_restart_without_the_source_begins_with_the_last_good_policy(fetching, bundles):
    running = await started(fetching())
    bundles.raw = signed(DENY)
    await eventually(lambda: "reloaded" in running.log(), 15)
    await asyncio.to_thread(running.stop)
    bundles.fault = "500"
    await started(running)
    async with talking(running, running.key()) as alice:
        assert (await alice.call("look")).reason == "closed"
        part = await ready(running)
        assert part["state"] == "degraded" and "HTTP 500" in part["detail"]
        # It comes back, with something else.
        bundles.raw, bundles.fault = signed(ALLOW), ""
        await eventually(lambda: running.log().count("reloaded") == 2, 15)
        assert (await alice.call("look")).text == "done"


async def test_a_stored_policy_that_was_altered_does_not_start(fetching, bundles):
    running = await started(fetching())
    await asyncio.to_thread(running.stop)
    forged = archive.write({**archive.read(bundles.raw).files, "all.rego": DENY_ALL.encode()})
    with sqlite3.connect(running.database_path) as database:
        database.execute("UPDATE policy_bundles SET bytes = ?", [forged])
    database.close()
    bundles.fault = "500"
    code, said = await asyncio.to_thread(running.refuses_to_start)
    assert code == 2 and "is not what was stored" in said and "Traceback" not in said


async def test_without_a_policy_it_could_trust_it_does_not_start(fetching, bundles):
    for raw, fault, says in ((b"", "404", "HTTP 404"), (archive.write(ALLOW), "", "no .signatures.json")):
        bundles.raw, bundles.fault = raw, fault
        running = fetching()
        code, said = await asyncio.to_thread(running.refuses_to_start)
        assert code == 2 and says in said and "Traceback" not in said


STALE = {
    # tool of the upstream: what may still be done when the policy is (soft, hard)
    "look": ("done", "policy_stale"),
    "note": ("done", "approvals_not_configured"),
    "pay": ("approvals_not_configured", "policy_stale"),
    "send": ("approvals_not_configured", "policy_stale"),  # reversible, and it leaves the house
}


@pytest.mark.slow
async def test_the_longer_the_source_is_silent_the_less_may_happen(fetching, bundles):
    running = await started(fetching(stale_soft_s=4, stale_hard_s=14))
    async with talking(running, running.key()) as alice:
        assert (await alice.call("pay", text="fresh")).text == "done"
        bundles.fault = "500"
        silent = time.monotonic()
        for column, (after_s, age) in enumerate(((5.0, "soft"), (15.0, "hard"))):
            await asyncio.sleep(silent + after_s - time.monotonic())
            for tool, cells in STALE.items():
                said = await alice.call(tool, text=f"{tool} {age}")
                assert (said.reason or said.text) == cells[column] or (
                    cells[column] == "approvals_not_configured" and said.reason == "policy_stale"
                ), (tool, age, said.message)
                assert said.refused == (cells[column] != "done")
            part = await ready(running)
            assert part["state"] == "degraded" and f"({age})" in part["detail"]
        record = await running.recorded(lambda record: record.get("facts", {}).get("stale") == ["policy"])
        assert record["verdict"] in ("allow", "escalate")
        bundles.fault = ""
        await _until_ok(running)
        assert (await alice.call("pay", text="again")).text == "done"


async def test_a_signed_file_and_a_signed_folder_are_verified_and_reloaded(gateway, tmp_path, server):
    key = tmp_path / "k.pub"
    key.write_bytes(pair("ES256")[1].material)
    verify = {"keys": {"release": {"algorithm": "ES256", "file": str(key)}}}
    packed = tmp_path / "policy.tar.gz"
    packed.write_bytes(signed(ALLOW))
    folder = tmp_path / "folder"
    folder.mkdir()

    def unpack(raw: bytes) -> None:
        for name, content in archive.read(raw).files.items():
            (folder / name).write_bytes(content)

    unpack(signed(ALLOW))
    for source in ({"file": str(packed)}, {"path": str(folder)}):
        running = gateway(policy={"source": {**source, "verify": verify}})
        await started(running)
        async with talking(running, running.key()) as alice:
            assert (await alice.call("look")).text == "done"
            if "file" in source:
                packed.write_bytes(archive.write(DENY))
            else:
                (folder / "all.rego").write_bytes(DENY["all.rego"])
            await eventually(lambda: "not reloaded" in running.log(), 10)  # noqa: B023
            assert (await alice.call("look")).text == "done", "nobody vouches for the change"
            if "file" in source:
                packed.write_bytes(signed(DENY))
            else:
                unpack(signed(DENY))
            await eventually(lambda: '"reloaded"' in running.log(), 10)  # noqa: B023
            assert (await alice.call("look")).reason == "closed"
        running.close()


@pytest.mark.slow
async def test_a_signature_that_expires_while_it_decides_is_an_alarm_and_ages_the_policy(fetching, bundles):
    running = await started(fetching(stale_soft_s=2, stale_hard_s=60))
    async with talking(running, running.key()) as alice:
        # Clocks may differ by half a minute, so it has expired when it is that much older: in 15 s.
        bundles.raw = signed({**ALLOW, "data.json": b'{"short": 1}'}, exp=int(time.time()) - 15)
        await eventually(lambda: "reloaded" in running.log(), 14)
        assert (await alice.call("pay", text="x")).text == "done"
        deadline = time.monotonic() + 40
        while "has expired" not in (part := await ready(running))["detail"]:
            assert time.monotonic() < deadline, part
            await asyncio.sleep(0.1)
        while (await alice.call("pay", text="x")).text == "done":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        bundles.raw = signed(ALLOW)
        await _until_ok(running)
        assert (await alice.call("pay", text="x")).text == "done"


async def test_where_a_signature_is_needed_a_candidate_needs_one_too(fetching, bundles, tmp_path):
    running = await started(fetching())
    unsigned = tmp_path / "unsigned.tar.gz"
    unsigned.write_bytes(archive.write(DENY))
    done = await running.cli("policy", "rollout", "start", str(unsigned))
    assert done.returncode == 2 and "no .signatures.json" in done.stderr
    unsigned.write_bytes(signed(DENY))
    assert (await running.cli("policy", "rollout", "start", str(unsigned))).returncode == 0
    assert (await running.cli("policy", "rollout", "promote")).returncode == 0
    async with talking(running, running.key()) as alice:
        await eventually(lambda: "reloaded" in running.log(), 15)
        assert (await alice.call("look")).reason == "closed"
        bundles.raw = signed({**ALLOW, "data.json": b'{"new": 1}'})
        deadline = time.monotonic() + 10
        while not (await metrics(running))['wardgate_bundle_checks_total{result="waiting"}']:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert (await alice.call("look")).reason == "closed", "what the url has waits"
        assert (await running.cli("policy", "rollout", "follow")).returncode == 0
        await eventually(lambda: running.log().count('"reloaded"') >= 2, 15)
        assert (await alice.call("look")).text == "done"
