"""MCP servers: both eras, over streamable HTTP and stdio."""
