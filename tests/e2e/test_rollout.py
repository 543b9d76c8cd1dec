"""A candidate is tried on live calls, promoted and taken back; callers never notice any of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.policy import archive
from tests.e2e.gateway import ALLOW_ALL, DENY_ALL, Wardgate, eventually, rule, talking
from tests.policy.bench_policy import many

NO_PAY = rule(
    "pay", 'deny contains {"code": "no_money", "message": "no money"}', codes=["no_money"],
    scope={"tools": ["counting/pay"]},
)  # fmt: skip
BROKEN_LATER = rule(
    "pay", 'deny contains {"code": "no_money", "message": "x"} if to_number(input.call.args.text) > 1',
    codes=["no_money"], scope={"tools": ["counting/pay"]},
)  # fmt: skip


def candidate(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in {"all": ALLOW_ALL, **files}.items():
        (folder / f"{name}.rego").write_text(text)
    return folder


async def shadow(running: Wardgate) -> dict[str, Any]:
    if not hasattr(running, "operator"):
        running.operator = await running.new_operator()
        await asyncio.sleep(1)
    headers = {"authorization": f"Bearer {running.operator}"}
    url = f"{running.admin_url}/v1/policy/shadow"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


def in_force(running: Wardgate) -> str:
    """The policy revision that the last reload put in force."""
    lines = [json.loads(line) for line in running.log().splitlines() if '"reloaded"' in line]
    return str(lines[-1]["policy"]) if lines else ""


async def rollout(running: Wardgate, *arguments: str) -> dict[str, Any]:
    return await running.cli_json("policy", "rollout", *arguments)


async def test_a_candidate_is_tried_promoted_kept_over_a_restart_and_taken_back(gateway, server, tmp_path):
    running = gateway().start()
    first = (await shadow(running))["active_revision"]
    started = await rollout(
        running, "start", str(candidate(tmp_path / "next", pay=NO_PAY)), "--percent", "100"
    )
    async with talking(running, running.key()) as alice:
        deadline = time.monotonic() + 20
        while not (found := await shadow(running))["counts"].get("tightened"):
            assert time.monotonic() < deadline, found
            assert (await alice.call("pay", text="x")).text == "done", "a candidate decides nothing"
            assert (await alice.call("look")).text == "done"
            await asyncio.sleep(0.1)
        assert found["counts"]["loosened"] == found["counts"]["error"] == found["counts"]["dropped"] == 0
        assert found["counts"]["same"] >= 1
        assert [(each["change"], each["rule"], each["target"]) for each in found["changes"]] == [
            ("tightened", "test.pay", "counting/pay")
        ]
        one = found["differences"][0]
        assert (one["verdict"], one["candidate_verdict"], one["candidate_code"]) == (
            "allow",
            "deny",
            "no_money",
        )
        assert (one["active"], one["candidate"]) == (first, started["candidate"])

        listed = await rollout(running, "status")
        assert listed["parts"]["candidate"]["percent"] == 100
        assert listed["changes"][0]["rule"] == "test.pay"
        table = await running.cli("policy", "rollout", "status")
        assert "tightened" in table.stdout and "test.pay" in table.stdout

        await rollout(running, "promote")
        await eventually(lambda: in_force(running) == started["candidate"], 10)
        assert (await alice.call("pay", text="x")).reason == "no_money"
        assert (await alice.call("look")).text == "done"

        await asyncio.to_thread(running.stop)
        await asyncio.to_thread(running.start)
        assert (await alice.call("pay", text="x")).reason == "no_money", "it survives a restart"
        now = await shadow(running)
        assert (now["active_part"], now["active_revision"]) == ("promoted", started["candidate"])

        running.policy("all.rego", DENY_ALL)  # the configured folder waits its turn
        reloads = running.log().count('"reloaded"')
        await eventually(lambda: running.log().count('"reloaded"') > reloads, 10)
        assert (await alice.call("look")).text == "done"
        running.policy("all.rego", ALLOW_ALL)

        await rollout(running, "back")
        await eventually(lambda: in_force(running) == first, 10)
        assert (await alice.call("pay", text="x")).text == "done"
        await rollout(running, "back")
        await eventually(lambda: in_force(running) == started["candidate"], 10)
        assert (await alice.call("pay", text="x")).reason == "no_money"
        await rollout(running, "follow")
        await eventually(lambda: in_force(running) == first, 10)
        assert (await alice.call("pay", text="x")).text == "done"


async def test_the_step_back_also_undoes_a_change_of_the_folder(gateway, server):
    running = gateway().start()
    async with talking(running, running.key()) as alice:
        running.policy("all.rego", DENY_ALL)
        await eventually(lambda: "reloaded" in running.log(), 10)
        assert (await alice.call("look")).reason == "closed"
        await rollout(running, "back")
        await eventually(lambda: running.log().count("reloaded") >= 2, 10)
        assert (await alice.call("look")).text == "done"


async def test_whatever_becomes_of_a_candidate_callers_are_decided_as_before(gateway, server, tmp_path):
    running = gateway().start()
    async with talking(running, running.key()) as alice:
        await rollout(running, "start", str(candidate(tmp_path / "later", pay=BROKEN_LATER)))
        deadline = time.monotonic() + 20
        while not (found := await shadow(running))["counts"].get("error"):
            assert time.monotonic() < deadline, found
            assert (await alice.call("pay", text="no number")).text == "done"
        assert found["changes"][0]["change"] == "error" and found["changes"][0]["rule"] == "test.pay"

        # The process that tries it is killed: the trial ends, the calls go on.
        assert running.process is not None
        children = subprocess.run(
            ["ps", "--ppid", str(running.process.pid), "-o", "pid=,args="], capture_output=True, text=True
        ).stdout.splitlines()
        [worker] = [int(line.split()[0]) for line in children if "gateway.policy.worker" in line]
        os.kill(worker, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while not (await shadow(running))["failure"]:
            assert time.monotonic() < deadline
            assert (await alice.call("pay", text="no number")).text == "done"
        dropped = (await shadow(running))["counts"]["dropped"]
        assert (await alice.call("pay", text="no number")).text == "done"
        assert (await shadow(running))["counts"]["dropped"] == dropped + 1, "what is not tried is counted"
        await rollout(running, "stop")
        deadline = time.monotonic() + 10
        while (await shadow(running))["candidate_revision"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_candidate_that_would_not_be_put_in_force_is_not_tried(gateway, tmp_path, server):
    running = gateway()
    await asyncio.to_thread(running.start)
    failing = candidate(tmp_path / "failing")
    (failing / "all_test.rego").write_text("package all_test\nimport rego.v1\ntest_it if false\n")
    for what, says in (
        (
            str(candidate(tmp_path / "broken", pay="package wardgate.rules.pay\nimport rego.v1\ndeny if {")),
            "pay.rego:",
        ),
        (str(failing), "test_it fails"),
        (str(tmp_path / "nothing"), "There is no policy folder or bundle"),
    ):
        done = await running.cli("policy", "rollout", "start", what)
        assert done.returncode in (2, 3) and says in done.stderr and "Traceback" not in done.stderr
    for command in ("promote", "stop", "back", "follow"):
        done = await running.cli("policy", "rollout", command)
        assert done.returncode == 3 and "Not done" in done.stderr, (command, done.stderr)


async def test_a_bundle_is_built_signed_verified_and_refused_with_exactly_what_is_wrong(gateway, tmp_path):
    running = gateway()
    from tests.policy.bundles import pair

    private, public = pair("ES256")
    (tmp_path / "k.pem").write_bytes(private.material)
    (tmp_path / "k.pub").write_bytes(public.material)
    bundle = tmp_path / "b.tar.gz"
    built = await running.cli_json("policy", "build", "-o", str(bundle), "--revision", "v7")
    again = await running.cli_json("policy", "build", "-o", str(tmp_path / "c.tar.gz"), "--revision", "v7")
    assert built["revision"] == again["revision"]
    assert bundle.read_bytes() == (tmp_path / "c.tar.gz").read_bytes()

    sign = ("policy", "sign", str(bundle), "--key", str(tmp_path / "k.pem"), "--key-id", "release")
    (tmp_path / "k.pem").chmod(0o644)
    open_to_all = await asyncio.to_thread(_plain, running, *sign)
    assert open_to_all.returncode == 2 and "chmod 600" in open_to_all.stderr
    (tmp_path / "k.pem").chmod(0o600)
    assert (await asyncio.to_thread(_plain, running, *sign, "--scope", "prod")).returncode == 0

    check = ("policy", "verify", str(bundle), "--key", str(tmp_path / "k.pub"))
    done = json.loads((await asyncio.to_thread(_plain, running, *check, "--scope", "prod", "--json")).stdout)
    assert (done["manifest_revision"], done["revision"]) == ("v7", built["revision"])
    assert done["signature"]["key"] == "release"
    wrong = await asyncio.to_thread(_plain, running, *check)
    assert wrong.returncode == 2 and "signed for the scope 'prod'" in wrong.stderr
    files = dict(archive.read(bundle.read_bytes()).files)
    files["all.rego"] += b"# more\n"
    bundle.write_bytes(archive.write(files))
    wrong = await asyncio.to_thread(_plain, running, *check, "--scope", "prod")
    assert wrong.returncode == 2 and "all.rego: is not the file that was signed" in wrong.stderr
    missing = await asyncio.to_thread(_plain, running, "policy", "verify", str(tmp_path / "none.tar.gz"))
    assert missing.returncode in (2, 3) and "Traceback" not in missing.stderr


def _plain(running: Wardgate, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that needs no configuration but does not mind one."""
    from tests.e2e.gateway import ROOT, WARDGATE

    return subprocess.run(
        [*WARDGATE, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT,
        env={**running._environment(), "WARDGATE_CONFIG": str(running.config_path)},
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- numbers


def thousand(folder: Path, version: int) -> None:
    """A folder of a thousand modules, all of one version: each half of another one would show."""
    for name, text in many(1000).items():
        beside = folder / f"{name}.new"
        beside.write_text(text)
        beside.replace(folder / f"{name}.rego")
    (folder / "all.rego").write_text(
        rule("all", f'allow contains {{"code": "v{version}", "message": "v"}}', codes=[f"v{version}"])
    )


@pytest.mark.slow
async def test_a_thousand_modules_are_reloaded_under_load_without_a_failed_or_late_call(
    gateway, server, tmp_path
):
    """The numbers of the issue: no failed or half-decided call, and nobody waits longer than 20 ms more."""
    running = gateway()
    thousand(running.policies, 0)
    await asyncio.to_thread(running.start)
    waits: list[tuple[float, float]] = []
    stop = asyncio.Event()
    async with talking(running, running.key()) as alice:

        async def load() -> None:
            while not stop.is_set():
                began = time.perf_counter()
                said = await alice.call("look")
                waits.append((began, time.perf_counter() - began))
                assert said.text == "done", said.message
                await asyncio.sleep(0.005)

        callers = [asyncio.create_task(load()) for _ in range(4)]
        await asyncio.sleep(3)
        quiet = time.perf_counter()
        for version in (1, 2, 3):
            before = running.log().count('"reloaded"')
            await asyncio.to_thread(thousand, running.policies, version)
            await eventually(lambda: running.log().count('"reloaded"') > before, 40)  # noqa: B023
            await asyncio.sleep(1)
        stop.set()
        await asyncio.gather(*callers)
    codes = {record["code"] for record in running.records() if record.get("verdict") == "allow"}
    assert {"v0", "v3"} <= codes <= {"v0", "v1", "v2", "v3"}
    usual = sorted(took for began, took in waits if began < quiet)
    during = sorted(took for began, took in waits if began >= quiet)
    for name, took in (("quiet", usual), ("reloading", during)):
        p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
        print(f"{name}: {len(took)} calls, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")


@pytest.mark.slow
async def test_callers_do_not_wait_for_a_candidate(gateway, server, tmp_path):
    """Each call is decided by the active policy and tried on the candidate; both rounds in turn, beside each
    other, so that other work on the machine falls on both."""
    heavy = rule(
        "pay",
        'deny contains {"code": "no_money", "message": "x"} if '
        "count({x | some a, b in input.tool.effects; x := [a, b]}) > 900",
        codes=["no_money"],
    )
    plain, tried = gateway().start(), gateway().start()
    await rollout(tried, "start", str(candidate(tmp_path / "next", pay=heavy)), "--percent", "100")
    deadline = time.monotonic() + 20
    took: dict[str, list[float]] = {"plain": [], "tried": []}
    async with talking(plain, plain.key()) as first, talking(tried, tried.key()) as second:
        while not (await shadow(tried))["counts"].get("same"):
            assert time.monotonic() < deadline
            await second.call("look")
        for _ in range(1500):
            for name, agent in (("plain", first), ("tried", second)):
                began = time.perf_counter()
                assert (await agent.call("look")).text == "done"
                took[name].append(time.perf_counter() - began)
    found = await shadow(tried)
    assert sum(found["counts"].values()) >= 1400 and found["failure"] == ""
    p50 = {name: statistics.median(each) for name, each in took.items()}
    p99 = {name: sorted(each)[int(len(each) * 0.99)] for name, each in took.items()}
    print({name: f"p50 {p50[name] * 1e3:.2f} ms p99 {p99[name] * 1e3:.2f} ms" for name in took})
    print("dropped", found["counts"]["dropped"])
    assert p50["tried"] <= p50["plain"] * 1.25 + 0.0003, p50
