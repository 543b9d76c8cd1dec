"""The Model Context Protocol front: raw ASGI, both protocol eras, every call through the pipeline."""

from gateway.surfaces.mcp.app import McpSurface
from gateway.surfaces.mcp.ports import Authenticate, ServerInfo, UpstreamInfo

__all__ = ["Authenticate", "McpSurface", "ServerInfo", "UpstreamInfo"]
