"""The clients that are tried, how each is installed and driven, and how it is put behind the gateway.

``docs/reference/clients.md`` is made from this table, and each ``adopt`` is code of the client's driver, so
the page cannot show a line that was not run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, Literal

import msgspec

HERE: Final = Path(__file__).parent
Era = Literal["2026-07-28", "2025-11-25"]


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Packages that are installed together, from one lock."""

    name: str
    requires: tuple[str, ...] = ()  # PyPI; npm environments say it in their package.json
    npm: bool = False

    @property
    def lock(self) -> Path:
        if self.npm:
            return HERE / "npm" / self.name / "package-lock.json"
        return HERE / "locks" / f"{self.name}.lock"

    def version(self, package: str) -> str:
        """The version of a package in the lock."""
        text = self.lock.read_text()
        if self.npm:
            return str(json.loads(text)["packages"][f"node_modules/{package}"]["version"])
        found = re.search(rf"^{re.escape(package)}(?:\[[^]]*\])?==(\S+)", text, flags=re.MULTILINE)
        assert found is not None, f"{package} is not in {self.lock}"
        return found[1]


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """One client in one mode."""

    name: str  # on the command line, and the agent's name at the gateway
    title: str  # for people
    package: str  # whose version is told
    environment: Environment
    driver: str  # file in this folder
    mode: str = ""
    era: Era  # the revision it must be seen speaking
    adopt: str  # the change to put an agent behind the gateway; part of the driver
    note: str = ""  # what is peculiar to it, for the documentation
    framework: bool = False  # the driver reports what a model was given, not what a program got
    ci: bool = False  # part of every run of CI; the others are for `make test-clients`

    @property
    def version(self) -> str:
        return self.environment.version(self.package)


NODE: Final = Environment(name="node", npm=True)
"""The Node that runs the npm clients; Debian's may be too old for them."""

_MCP23: Final = Environment(name="mcp23", requires=("mcp>=2.3,<2.4",))
_TS2: Final = Environment(name="ts2", npm=True)
_PYTHON_2 = (
    'http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60)\n'
    "async with http, mcp.Client(streamable_http_client(URL, http_client=http), mode=MODE) as client:"
)
_TYPESCRIPT = (
    "new StreamableHTTPClientTransport(new URL(ADDRESS), "
    "{ requestInit: { headers: { Authorization: `Bearer ${KEY}` } } })"
)

CLIENTS: Final = (
    *(
        Client(
            name=f"mcp23-{mode}", title=f"MCP Python SDK 2.x, mode `{argument}`", package="mcp",
            environment=_MCP23, driver="drive_mcp23.py", mode=argument, era=era, adopt=_PYTHON_2, ci=True,
        )
        for mode, argument, era in (
            ("auto", "auto", "2026-07-28"),
            ("legacy", "legacy", "2025-11-25"),
            ("pinned", "2026-07-28", "2026-07-28"),
        )
    ),
    Client(
        name="mcp130", title="MCP Python SDK 1.x", package="mcp",
        environment=Environment(name="mcp130", requires=("mcp>=1.30,<1.31",)),
        driver="drive_mcp130.py", era="2025-11-25", ci=True,
        note="A session ends at any HTTP error, so nothing about a tool call is one.",
        adopt='streamablehttp_client(URL, headers={"Authorization": f"Bearer {KEY}"})',
    ),
    Client(
        name="ts1", title="MCP TypeScript SDK 1.x", package="@modelcontextprotocol/sdk",
        environment=Environment(name="ts1", npm=True),
        driver="drive_ts1.mjs", era="2025-11-25", adopt=_TYPESCRIPT, ci=True,
        note="Checks `structuredContent` against the output schema even of a refusal; so refusals have none.",
    ),
    *(
        Client(
            name=f"ts2-{mode}", title=f"MCP TypeScript SDK 2.x, {said}",
            package="@modelcontextprotocol/client", environment=_TS2,
            driver="drive_ts2.mjs", mode=mode, era=era, adopt=_TYPESCRIPT, ci=True,
        )
        for mode, said, era in (
            ("default", "as it comes", "2025-11-25"),
            ("auto", "`versionNegotiation: auto`", "2026-07-28"),
        )
    ),
    Client(
        name="inspector", title="MCP Inspector, command line", package="@modelcontextprotocol/inspector",
        environment=Environment(name="inspector", npm=True),
        driver="drive_inspector.mjs", era="2025-11-25", ci=True,
        note="One session for every call. Ends with 5 when the call is refused, as for any `isError`.",
        adopt='"--cli", ADDRESS, "--transport", "http", "--header", `Authorization: Bearer ${KEY}`',
    ),
    Client(
        name="langchain", title="LangChain / LangGraph", package="langchain-mcp-adapters",
        environment=Environment(
            name="langchain", requires=("langchain-mcp-adapters>=0.3.2,<0.4", "langchain>=1.5,<2")
        ),
        driver="drive_langchain.py", era="2025-11-25", framework=True, ci=True,
        note="A new session for every call.",
        adopt='MultiServerMCPClient(\n    {"wardgate": {"transport": "http", "url": URL, '
              '"headers": {"Authorization": f"Bearer {KEY}"}}}\n)',
    ),
    Client(
        name="openai", title="OpenAI Agents SDK", package="openai-agents",
        environment=Environment(name="openai", requires=("openai-agents>=0.24,<0.25",)),
        driver="drive_openai.py", era="2026-07-28", framework=True,
        note="Makes the calls of one turn one after the other. As it comes it waits 5 s for an answer, and "
             "progress does not extend that.",
        adopt="MCPServerStreamableHttp(\n    "
              'params={"url": URL, "headers": {"Authorization": f"Bearer {KEY}"}}, '
              "client_session_timeout_seconds=60\n)",
    ),
    Client(
        name="pydantic-ai", title="pydantic-ai", package="pydantic-ai-slim",
        environment=Environment(name="pydantic-ai", requires=("pydantic-ai-slim[mcp]>=2.68,<3",)),
        driver="drive_pydantic_ai.py", era="2026-07-28", framework=True,
        note="As it comes, refusals count as retries, and the second one of a tool ends the run; hence "
             '`tool_error_behavior="failed"`.',
        adopt='MCPToolset(URL, headers={"Authorization": f"Bearer {KEY}"}, tool_error_behavior="failed")',
    ),
    Client(
        name="adk", title="Google ADK", package="google-adk",
        environment=Environment(name="adk", requires=("google-adk[mcp]>=2.13,<2.14",)),
        driver="drive_adk.py", era="2025-11-25", framework=True,
        adopt="McpToolset(\n    connection_params=StreamableHTTPConnectionParams(url=URL, "
              'headers={"Authorization": f"Bearer {KEY}"})\n)',
    ),
    Client(
        name="maf", title="Microsoft Agent Framework", package="agent-framework-core",
        environment=Environment(
            name="maf", requires=("agent-framework-core>=1.23,<2", "mcp>=2.3,<2.4", "tenacity>=9")
        ),
        driver="drive_maf.py", era="2026-07-28", framework=True,
        note="Makes the calls of one turn one after the other.",
        adopt='MCPStreamableHTTPTool(name="wardgate", url=URL, '
              'header_provider=lambda _: {"Authorization": f"Bearer {KEY}"})',
    ),
    Client(
        name="fastmcp", title="FastMCP client", package="fastmcp-slim",
        environment=Environment(name="fastmcp", requires=("fastmcp-slim[client]>=4.2,<5",)),
        driver="drive_fastmcp.py", era="2026-07-28",
        note="`call_tool` raises for a refusal as for any `isError`; `raise_on_error=False` returns it.",
        adopt="Client(URL, auth=KEY)",
    ),
)  # fmt: skip
