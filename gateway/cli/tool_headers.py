"""Arguments that a modern tool wants repeated in headers (2026-07-28, basic/transports: Custom Headers).

A client on stdio writes no headers, so the bridge writes them for it. Which they are stands in the list of
tools, so every list that passes through is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.upstreams.headers import ParamHeaders, param_headers, param_values

MAX_TOOLS: Final = 20_000  # remembered


class ToolHeaders:
    """What the tools listed so far want repeated."""

    def __init__(self) -> None:
        self._wanted: dict[str, ParamHeaders] = {}
        self._listed: set[str] = set()

    def learn(self, result: object) -> str | None:
        """Take one page of a ``tools/list``; the cursor of the next one, if there is one."""
        if not isinstance(result, Mapping):
            return None
        tools = result.get("tools")
        for tool in tools if isinstance(tools, list) else ():
            name = tool.get("name") if isinstance(tool, Mapping) else None
            if isinstance(name, str) and (name in self._listed or len(self._listed) < MAX_TOOLS):
                self._listed.add(name)
                self._wanted.pop(name, None)
                if wanted := param_headers(tool.get("inputSchema")):
                    self._wanted[name] = wanted
        cursor = result.get("nextCursor")
        return cursor if isinstance(cursor, str) else None

    def knows(self, name: object) -> bool:
        return name in self._listed

    def of(self, params: Mapping[str, Any]) -> dict[str, str]:
        """The headers of one ``tools/call``."""
        name, arguments = params.get("name"), params.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, Mapping):
            return {}
        return dict(param_values(self._wanted.get(name, ()), arguments))
