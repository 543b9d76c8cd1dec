"""Where calls go out: MCP servers over HTTP and stdio, behind the ``Upstreams`` port."""
