"""``wardgate doctor``: each finding says what, why and what to do."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import office, wardgate, wardgate_json


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder made by init in front of a running office server."""
    folder = tmp_path_factory.mktemp("doctor")
    with office(folder / "office.db") as where:
        servers = {"mcpServers": {"office": {"type": "http", "url": where["url"]}}}
        (folder / ".mcp.json").write_text(json.dumps(servers))
        wardgate_json("init", "--dir", folder, "--port", free_port())
        yield folder / "wardgate.yaml"


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return str(min(sock.getsockname()[1], 65_533))


def examined(config: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = wardgate("doctor", "--config", config, "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def changed(config: Path, old: str, new: str) -> Path:
    """A second configuration beside the first, with one thing different."""
    text = config.read_text()
    assert old in text
    other = config.with_name("changed.yaml")
    other.write_text(text.replace(old, new))
    return other


def test_after_init_there_are_no_problems_and_the_undescribed_tools_are_named(guarded: Path) -> None:
    code, found = examined(guarded)
    assert code == 0, found
    assert [finding for finding in found if finding["level"] == "problem"] == []
    [undescribed] = [finding for finding in found if "no manifest" in finding["what"]]
    assert "8 tool(s)" in undescribed["what"]
    assert "irreversible" in undescribed["why"]
    assert "upstreams.office.tools" in undescribed["todo"]


def test_strict_turns_warnings_into_an_exit_code(guarded: Path) -> None:
    assert examined(guarded, "--strict")[0] == 1


def test_every_finding_that_is_not_fine_says_why_and_what_to_do(guarded: Path) -> None:
    for finding in examined(guarded)[1]:
        if finding["level"] != "ok":
            assert finding["why"] and finding["todo"], finding


def test_a_tool_server_that_is_down_is_a_problem_with_its_name(guarded: Path) -> None:
    url = next(line for line in guarded.read_text().splitlines() if "url:" in line)
    code, found = examined(changed(guarded, url, '    url: "http://127.0.0.1:9/mcp"'))
    assert code == 2
    assert any(
        "'office' cannot be used" in finding["what"] for finding in found if finding["level"] == "problem"
    )


def test_a_key_file_others_can_read_is_a_problem(guarded: Path) -> None:
    key = guarded.with_name("wardgate.key")
    key.chmod(0o644)
    try:
        code, found = examined(guarded)
    finally:
        key.chmod(0o600)
    assert code == 2
    assert any("0644" in finding["what"] for finding in found if finding["area"] == "secrets")


def test_a_port_somebody_else_holds_is_a_problem(guarded: Path) -> None:
    port = next(line for line in guarded.read_text().splitlines() if "  port:" in line).split()[1]
    with socket.create_server(("127.0.0.1", int(port))):
        code, found = examined(guarded)
    assert code == 2
    assert any(f":{port} cannot be used" in finding["what"] for finding in found)


def test_a_misspelt_manifest_is_pointed_out(guarded: Path) -> None:
    described = "    # tools:\n    tools: {delete_custmer: {risk: irreversible}}"
    _, found = examined(changed(guarded, "    # tools:", described))
    assert any("lists no tool called delete_custmer" in finding["what"] for finding in found)


def test_an_upstream_that_runs_elsewhere_is_not_contacted_and_its_routes_are_looked_at(guarded: Path) -> None:
    shop = (
        "upstreams:\n  shop:\n    elsewhere: true\n    tools: {pay: {risk: irreversible}}\n    routes:\n"
        "      - {method: POST, path: /pay, tool: pay}\n      - {method: GET, path: /look, tool: look}\n"
    )
    code, found = examined(changed(guarded, "upstreams:\n", shop))
    assert code == 0, found
    said = [finding for finding in found if "'shop'" in finding["what"]]
    assert [finding["level"] for finding in said] == ["ok", "warning"]
    assert "look" in said[1]["what"] and "pay" not in said[1]["what"]


def test_a_configuration_that_is_none_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "wardgate.yaml"
    path.write_text("modes: observe\n")
    code, found = examined(path)
    assert code == 2
    assert [finding["area"] for finding in found] == ["config"]
    assert "modes" in found[0]["what"]


ODD_NAMES = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get("method") == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "odd", "version": "1"}}
    elif asked.get("method") == "tools/list":
        schema = {"type": "object"}
        names = [{"name": "pay"}, {"name": "p\\u200bay"}, {}]
        result = {"tools": [{**name, "inputSchema": schema} for name in names]}
    elif "id" in asked:
        error = {"code": -32601, "message": "no"}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}), flush=True)
        continue
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


def test_tools_whose_names_could_be_mistaken_are_reported_as_refused(guarded: Path, tmp_path: Path) -> None:
    server = tmp_path / "odd.py"
    server.write_text(ODD_NAMES)
    url = next(line for line in guarded.read_text().splitlines() if "url:" in line)
    _, found = examined(changed(guarded, url, f'    command: ["{sys.executable}", "{server}"]'))
    said = [finding["what"] for finding in found if finding["what"].endswith("refused.")]
    assert len(said) == 2
    assert any("U+200B" in what for what in said) and any("has no name" in what for what in said)
    assert any("lists 1 tool(s)" in finding["what"] for finding in found)


def with_credentials(config: Path, section: str) -> Path:
    url = next(line for line in config.read_text().splitlines() if "url:" in line)
    return changed(config, url, f"{url}\n    credentials: {section}")


def test_a_source_of_credentials_that_fails_is_a_problem_and_its_words_are_not_repeated(
    guarded: Path,
) -> None:
    script = guarded.with_name("helper.py")
    script.write_text("import sys\nprint('canary', file=sys.stderr)\nsys.exit(3)")
    command = json.dumps([sys.executable, "-I", str(script)])
    code, found = examined(with_credentials(guarded, f"{{secret: {{command: {command}}}}}"))
    assert code == 2
    [said] = [finding["what"] for finding in found if "credentials.secret" in finding["what"]]
    assert "ended with 3" in said
    assert "canary" not in json.dumps(found)


def test_a_credential_everybody_can_read_and_one_without_an_own_are_warnings(guarded: Path) -> None:
    token = guarded.with_name("token")
    token.write_text("canary-token")
    token.chmod(0o644)
    agent = next(
        line.strip(" :") for line in guarded.read_text().split("\nagents:\n")[1].splitlines() if line
    )
    code, found = examined(with_credentials(guarded, f"{{agents: {{{agent}: {{file: token}}}}}}"))
    assert code == 0, found
    warnings = [finding["what"] for finding in found if finding["level"] == "warning"]
    assert any("0644" in what and f"agents.{agent}" in what for what in warnings)
    assert any("no 'secret' of the upstream's own" in what for what in warnings)
    assert "canary-token" not in json.dumps(found)


def test_signing_keys_others_can_read_are_a_problem(guarded: Path) -> None:
    text = guarded.read_text()
    config = guarded.with_name("signing.yaml")
    config.write_text(text + "\nassertion: {key_file: signing.json}\n")
    assert any("assertion new" in finding["what"] for finding in examined(config)[1])
    assert wardgate("assertion", "new", "--config", config).returncode == 0
    _, found = examined(config)
    assert any("are signed with key" in finding["what"] for finding in found)
    assert any("no upstream has 'assertion: true'" in finding["what"] for finding in found)
    guarded.with_name("signing.json").chmod(0o644)
    code, found = examined(config)
    assert code == 2 and any("0644" in finding["what"] for finding in found)


def test_an_opa_that_does_not_answer_is_a_problem_with_its_address(guarded: Path) -> None:
    where = f"http://127.0.0.1:{free_port()}"
    asked = changed(guarded, "\npolicy:", f"\npolicy:\n  engine: opa\n  opa: {{url: {where}}}")
    code, found = examined(asked)
    [problem] = [finding for finding in found if finding["area"] == "opa"]
    assert (code, problem["level"]) == (2, "problem")
    assert where in problem["what"] and "opa run" in problem["todo"]


def test_doctor_says_what_each_tier_takes_a_day_and_what_is_missing_to_earn_one(guarded: Path) -> None:
    _, found = examined(guarded)
    assert [each["what"] for each in found if each["area"] == "trust"] == [
        "No trust is kept: agents have no tiers ('trust.enabled' is false)."
    ]
    trusting = guarded.with_name("trusting.yaml")
    trusting.write_text(guarded.read_text() + "\ntrust: {enabled: true}\n")
    _, found = examined(trusting)
    said = [each["what"] for each in found if each["area"] == "trust"]
    assert said[0] == "An agent nothing is known of holds T1."
    assert said[1] == (
        "T2 (bound 0.98) takes 148 verified outcomes without a failure, "
        "and 3.4 a day under a half-life of 30 days; 50 a day are counted."
    )
    assert [each["level"] for each in found if each["area"] == "trust"].count("warning") >= 2
    trusting.write_text(guarded.read_text() + "\ntrust: {enabled: true, per_day: 2}\n")
    code, found = examined(trusting)
    assert code == 2
    assert "never exceed" in found[0]["what"]
