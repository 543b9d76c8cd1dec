"""The command line around a running gateway: agents through the bridge, operators at the journal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from mcp import Client, StdioServerParameters

from gateway.demo.office import effects
from tests.cli.running import WARDGATE, gateway, office, wardgate, wardgate_json

MANIFESTS = (
    "{get_customer: {risk: read}, update_customer: {risk: reversible}, send_mail: {sensitive: [/body]}}"
)


class Site(NamedTuple):
    config: Path
    url: str
    key: str
    office: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """What 'init' makes of an office server, enforced, with the gateway running."""
    folder = tmp_path_factory.mktemp("site")
    with office(folder / "office.db") as where:
        client = {"mcpServers": {"office": {"type": "http", "url": where["url"]}}}
        (folder / ".mcp.json").write_text(json.dumps(client))
        key = wardgate_json("init", "--dir", folder)["keys"]["agent"]
        config = folder / "wardgate.yaml"
        text = config.read_text().replace("mode: observe", "mode: enforce")
        text = text.replace("port: 8700", "port: 0").replace("admin_port: 8701", "admin_port: 0")
        config.write_text(text.replace("    # tools:", f"    tools: {MANIFESTS}\n    # tools:"))
        with gateway(config) as addresses:
            site = Site(config, f"{addresses['agents']}/mcp/office", key, folder / "office.db")
            asyncio.run(work(site))
            yield site


def bridge(site: Site) -> StdioServerParameters:
    return StdioServerParameters(
        command=WARDGATE[0], args=[*WARDGATE[1:], "stdio", "--url", site.url], env={"WARDGATE_KEY": site.key}
    )


async def work(site: Site) -> None:
    """One allowed read, one allowed write, one call that is held for nobody."""
    async with Client(bridge(site)) as client:
        assert not (await client.call_tool("get_customer", {"customer_id": "C-1001"})).is_error
        assert not (
            await client.call_tool("update_customer", {"customer_id": "C-1001", "status": "new"})
        ).is_error
        secret = {"to": "a@example.com", "subject": "s", "body": "for your eyes only"}
        held = await client.call_tool("send_mail", secret)
        assert held.is_error
        assert "approval of a person" in held.content[0].text


def listed(site: Site, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = wardgate_json("decisions", "list", "--config", site.config, *arguments)[
        "items"
    ]
    return found


def test_each_call_is_listed_with_verdict_and_action_and_the_held_one_had_no_effect(site: Site) -> None:
    calls = {call["target"]: (call["verdict"], call["action"]) for call in listed(site)}
    assert calls == {
        "office/get_customer": ("allow", "allow"),
        "office/update_customer": ("allow", "allow"),
        "office/send_mail": ("escalate", "block"),
    }
    assert effects(site.office) == {"update_customer": 1}


def test_lists_narrow_and_continue(site: Site) -> None:
    assert [call["target"] for call in listed(site, "--verdict", "escalate")] == ["office/send_mail"]
    assert listed(site, "--agent", "nobody") == []
    assert len(listed(site, "--since", "1h", "--tool", "office/")) == 3
    first = wardgate_json("decisions", "list", "--config", site.config, "--limit", "2")
    rest = wardgate_json("decisions", "list", "--config", site.config, "--cursor", first["cursor"])
    assert len(first["items"]) + len(rest["items"]) == 3


def test_one_call_is_shown_without_what_its_manifest_calls_sensitive(site: Site) -> None:
    [call] = listed(site, "--tool", "office/send_mail")
    shown = wardgate("decisions", "show", call["call_id"], "--config", site.config)
    assert shown.returncode == 0, shown.stderr
    assert "irreversible_needs_person" in shown.stdout
    assert "a@example.com" in shown.stdout
    assert "for your eyes only" not in shown.stdout
    revealed = wardgate("decisions", "show", call["call_id"], "--reveal", "--config", site.config)
    assert "for your eyes only" in revealed.stdout


def test_an_unknown_call_is_not_found(site: Site) -> None:
    done = wardgate("decisions", "show", "nothing", "--config", site.config)
    assert done.returncode == 3
    assert "There is no call nothing" in done.stderr


def test_export_is_one_json_record_a_line(site: Site) -> None:
    done = wardgate("decisions", "export", "--config", site.config)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"intent", "result"} <= {record["phase"] for record in records}


def test_a_call_that_is_not_in_doubt_cannot_be_resolved(site: Site) -> None:
    [call] = listed(site, "--tool", "office/update_customer")
    done = wardgate("decisions", "resolve", call["call_id"], "--became", "executed", "--config", site.config)
    assert done.returncode == 3
    assert "never in doubt" in done.stderr


def test_erasing_takes_the_arguments_and_leaves_the_record(site: Site) -> None:
    [call] = listed(site, "--tool", "office/get_customer")
    refused = wardgate("records", "erase", "--config", site.config)
    assert refused.returncode == 2
    erased = wardgate_json("records", "erase", "--call", call["call_id"], "--yes", "--config", site.config)
    assert erased["calls"] == 1
    shown = wardgate_json("decisions", "show", call["call_id"], "--config", site.config)
    assert shown["payload"] == {}
    assert [record["phase"] for record in shown["records"]][-1] == "erased"


def test_tail_shows_a_call_while_it_happens(site: Site) -> None:
    follow = subprocess.Popen(
        [*WARDGATE, "decisions", "tail", "--json", "--config", str(site.config)],
        stdout=subprocess.PIPE,
        text=True,
        # A shell that started these tests in the background has its children ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert follow.stdout is not None
        for _ in range(20):  # until the follower is up, each call may be before its first look
            asyncio.run(look_up(site))
            os.set_blocking(follow.stdout.fileno(), False)
            if line := follow.stdout.readline():
                break
            asyncio.run(asyncio.sleep(0.5))
        assert json.loads(line)["target"] == "office/get_customer"
    finally:
        follow.send_signal(signal.SIGINT)
        assert follow.wait(timeout=10) == 130


async def look_up(site: Site, mode: Literal["auto", "legacy"] = "auto") -> None:
    async with Client(bridge(site), mode=mode) as client:
        assert not (await client.call_tool("get_customer", {"customer_id": "C-1002"})).is_error


def test_doctor_knows_the_running_gateway_and_finds_no_problem(site: Site) -> None:
    done = wardgate("doctor", "--config", site.config, "--json")
    assert done.returncode == 0, done.stdout


def test_a_second_gateway_on_the_same_storage_is_refused(site: Site) -> None:
    done = subprocess.run(
        [*WARDGATE, "serve", "--config", str(site.config)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "in use by another gateway" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_key_gets_an_answer_that_says_so(site: Site) -> None:
    ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    done = subprocess.run(
        [*WARDGATE, "stdio", "--url", site.url],
        input=ping + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "WARDGATE_KEY": "wgk_wrong_key"},
    )
    answer = json.loads(done.stdout)
    assert answer["id"] == 1
    assert "credential" in json.dumps(answer["error"])


async def test_a_restarted_gateway_is_met_with_a_new_session_and_the_client_notices_nothing(
    tmp_path: Path, site: Site
) -> None:
    config = tmp_path / "wardgate.yaml"
    text = site.config.read_text()
    policies = site.config.with_name("policies")
    write(config, text, policies, port=0)
    # Before the start: a running gateway takes up to half a second to notice a new key.
    key = wardgate_json("keys", "new", "--agent", "my-agent", "--config", config)["key"]
    with gateway(config) as first:
        port = int(first["agents"].rpartition(":")[2])
        here = Site(config, f"{first['agents']}/mcp/office", key, site.office)
        client = Client(bridge(here), mode="legacy")
        await client.__aenter__()
        assert not (await client.call_tool("get_customer", {"customer_id": "C-1001"})).is_error
    with gateway(write(config, text, policies, port=port)):
        assert not (await client.call_tool("get_customer", {"customer_id": "C-1001"})).is_error
        await client.__aexit__(None, None, None)


def write(config: Path, text: str, policies: Path, port: int) -> Path:
    text = text.replace("  port: 0", f"  port: {port}").replace("path: policies", f"path: {policies}")
    key_file = policies.with_name("wardgate.key")
    config.write_text(text.replace("key_file: wardgate.key", f"key_file: {key_file}"))
    return config
