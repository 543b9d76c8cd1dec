"""What ``wardgate init`` writes: the text of ``wardgate.yaml`` and of the client's new file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from gateway.cli.clientfile import Server, Shape

ENFORCE_HINT = "change 'mode: observe' to 'mode: enforce'"


def configuration(servers: Sequence[Server], agent: str, owner: str, port: int) -> str:
    """The whole ``wardgate.yaml``. Every value is written as JSON, which is YAML without surprises."""
    upstreams = "\n".join(_upstream(server) for server in servers) if servers else _NO_UPSTREAM
    return _TEMPLATE.format(
        port=port,
        admin_port=port + 1,
        upstreams=upstreams.rstrip("\n"),
        agent=agent,
        owner=json.dumps(owner, ensure_ascii=False),
    )


def client(servers: Sequence[Server], shape: Shape, url: str) -> dict[str, Any]:
    """The client's file with each server behind the gateway, under its old name.

    One endpoint for each upstream keeps the names of tools, so prompts and permissions that mention them
    stay valid. The key stays out of the file.
    """
    entries = {server.called: _entry(shape, f"{url}/mcp/{server.name}") for server in servers}
    entries = entries or {"wardgate": _entry(shape, f"{url}/mcp")}
    if shape != "vscode":
        return {"mcpServers": entries}
    prompt = {
        "type": "promptString",
        "id": "wardgate-key",
        "description": "wardgate agent key",
        "password": True,
    }
    return {"inputs": [prompt], "servers": entries}


def _entry(shape: Shape, url: str) -> dict[str, Any]:
    if shape == "claude-desktop":  # its file can only start processes
        return {
            "command": "wardgate",
            "args": ["stdio", "--url", url],
            "env": {"WARDGATE_KEY": "PUT-THE-AGENT-KEY-HERE"},
        }
    reference = {
        "claude-code": "${WARDGATE_KEY}",
        "cursor": "${env:WARDGATE_KEY}",
        "vscode": "${input:wardgate-key}",
    }[shape]
    return {"type": "http", "url": url, "headers": {"Authorization": f"Bearer {reference}"}}


def _upstream(server: Server) -> str:
    lines = [f"    # {line}" for note in server.notes for line in textwrap.wrap(note, 100)]
    if server.url is not None:
        lines.append(f"    url: {_json(server.url)}")
        if server.headers:
            lines.append(f"    headers: {_json(server.headers)}")
    else:
        lines.append(f"    command: {_json(server.command)}")
        if server.cwd is not None:
            lines.append(f"    cwd: {_json(server.cwd)}")
        if server.env:
            lines.append(f"    env: {_json(server.env)}")
    lines.append("    # Say what its tools do; a tool nobody described counts as irreversible.")
    lines.append("    # tools:")
    lines.append('    #   "get_*": {risk: read}')
    lines.append("    #   create_issue: {risk: reversible, effects: [write]}")
    return "\n".join([f"  {server.name}:", *lines])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_NO_UPSTREAM = """\
  # One entry for each tool server, over HTTP or as a command:
  #
  # github:
  #   url: https://mcp.example.com/mcp
  #   headers: {Authorization: "Bearer ${GITHUB_TOKEN}"}
  #   tools:
  #     "get_*": {risk: read}
  #
  # files:
  #   command: [npx, "-y", "@modelcontextprotocol/server-filesystem", /srv/data]
  #
  # An HTTP API with an OpenAPI document, a file of yours:
  #
  # crm:
  #   openapi: ./crm.yaml
  #   url: https://crm.example.com/api
  #   headers: {Authorization: "Bearer ${CRM_TOKEN}"}
  {}"""

_TEMPLATE = """\
# wardgate.yaml: the gateway between your agents and their tools.
# Every key: docs/reference/configuration.md, or 'wardgate config schema'.

# The one switch. In observe, every call is decided and recorded as it would be, and carried out all the same;
# only identity, sizes and the kill switch refuse. When 'wardgate decisions list --would-deny' shows
# nothing you would miss, change it to 'enforce'.
mode: observe

server:
  host: 127.0.0.1
  port: {port}          # agents: http://127.0.0.1:{port}/mcp, or /mcp/NAME for one upstream
  admin_port: {admin_port}    # operators: health, metrics, API docs

storage:
  path: wardgate.db
  key_file: wardgate.key   # encrypts arguments and results; keep a copy: without it they cannot be read
  payload_days: 30

policy:
  path: policies           # Rego modules; yours to change, reloaded when saved

# Where calls go out. ${{NAME}} in 'env' and 'headers' comes from the environment or from wardgate.env.
# An HTTP API is an upstream too: 'openapi' names its OpenAPI document, a file, and 'url' where it is.
upstreams:
{upstreams}

# Who may call. An agent needs an entry here and a key: wardgate keys new --agent NAME
agents:
  {agent}:
    owner: {owner}
"""
