"""A gateway whose calls are decided by a real OPA: from the configuration to the record."""

from __future__ import annotations

import asyncio

from tests.e2e.gateway import ALLOW_ALL, DENY_ALL, eventually, rule, talking
from tests.policy.opa_server import opa
from tests.requires import requires

# It reads an argument, so that no answer is remembered.
ASKS = rule(
    "all",
    'allow contains {"code": "fine", "message": "fine"} if not input.call.args.never',
    codes=["fine"],
)


@requires("opa")
async def test_calls_are_decided_by_opa_through_reload_crash_and_restart(gateway, server, tmp_path):
    with opa(tmp_path) as real:
        running = gateway()
        running.config["policy"] |= {
            "engine": "opa", "opa": {"socket": str(real.socket), "deadline_ms": 2000},
        }  # fmt: skip
        running.write_config()
        running.policy("all.rego", ASKS)
        running.start()
        async with talking(running, running.key()) as alice:
            assert (await alice.call("look")).reason is None
            await running.recorded(lambda record: record.get("verdict") == "allow")
            exported = str(running.exported())
            assert "'opa 1." in exported and "policy:opa" in exported, "the record names what decided"

            running.policy("all.rego", DENY_ALL)
            await eventually(lambda: "reloaded" in running.log())
            assert (await alice.call("look")).reason == "closed"

            # What OPA would refuse does not come into force, and what was in force stays.
            running.policy("all.rego", ASKS.replace("fine", "Fine"))
            await eventually(lambda: "not reloaded" in running.log())
            assert (await alice.call("look")).reason == "closed"

            running.policy("all.rego", ASKS)
            await eventually(lambda: running.log().count('"reloaded"') >= 2)
            real.kill()
            contacts = len(server.contacts())
            assert (await alice.call("note", text="x")).reason == "policy_unavailable"
            assert len(server.contacts()) == contacts, "nothing went out undecided"
            async with asyncio.timeout(10):
                while (await running.readiness())[0] != 503:
                    await asyncio.sleep(0.1)
            assert (await running.readiness())[1]["parts"]["policy"] == "down"

            real.start()
            async with asyncio.timeout(20):
                while (reason := (await alice.call("look")).reason) is not None:
                    assert reason in ("policy_mismatch", "policy_unavailable", "policy_undefined")
                    await asyncio.sleep(0.1)


@requires("opa")
async def test_a_gateway_may_start_before_its_opa(gateway, server, tmp_path):
    with opa(tmp_path) as real:
        real.kill()
        running = gateway()
        running.config["policy"] |= {
            "engine": "opa",
            "opa": {"socket": str(real.socket), "deadline_ms": 2000},
        }
        running.write_config()
        running.policy("all.rego", ALLOW_ALL.replace("if true", "if not input.call.args.never"))
        running.start()
        async with talking(running, running.key()) as alice:
            assert (await alice.call("note", text="x")).reason == "policy_unavailable"
            real.start()
            async with asyncio.timeout(20):
                while (reason := (await alice.call("look")).reason) is not None:
                    assert reason in ("policy_mismatch", "policy_unavailable", "policy_undefined")
                    await asyncio.sleep(0.1)
