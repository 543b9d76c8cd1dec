"""Where calls go out, behind the ``Upstreams`` port: MCP servers, HTTP APIs and Python callables."""
