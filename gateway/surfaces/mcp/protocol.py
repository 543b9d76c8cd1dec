"""The fixed words of MCP: revisions, headers, reserved keys and error codes.

Source: specification 2026-07-28 (``basic/transports/streamable-http``, ``basic/versioning``) and
2025-11-25 (``basic/transports``, ``basic/lifecycle``).
"""

from __future__ import annotations

from typing import Final

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2025-11-25", "2025-06-18", "2025-03-26")  # newest first
LEGACY_HEADERS: Final = frozenset(version.encode() for version in LEGACY)

# -- headers, as ASGI servers give them: lower case -----------------------------------------------------
H_VERSION: Final = b"mcp-protocol-version"
H_METHOD: Final = b"mcp-method"
H_NAME: Final = b"mcp-name"
H_SESSION: Final = b"mcp-session-id"
H_WORK: Final = b"wardgate-session"  # the piece of work, not the connection
PARAM_PREFIX: Final = b"mcp-param-"

# -- keys of ``params._meta`` ---------------------------------------------------------------------------
PROTOCOL_PREFIX: Final = "io.modelcontextprotocol/"
META_VERSION: Final = PROTOCOL_PREFIX + "protocolVersion"
META_CAPABILITIES: Final = PROTOCOL_PREFIX + "clientCapabilities"
META_CLIENT_INFO: Final = PROTOCOL_PREFIX + "clientInfo"
META_LOG_LEVEL: Final = PROTOCOL_PREFIX + "logLevel"
META_SUBSCRIPTION: Final = PROTOCOL_PREFIX + "subscriptionId"
META_SERVER_INFO: Final = PROTOCOL_PREFIX + "serverInfo"
VENDOR_PREFIX: Final = "dev.wardgate/"
META_DECISION: Final = VENDOR_PREFIX + "decision"
META_SESSION: Final = VENDOR_PREFIX + "session"
META_MANDATE: Final = VENDOR_PREFIX + "mandate"
META_THREAD: Final = VENDOR_PREFIX + "thread"
TASKS: Final = PROTOCOL_PREFIX + "tasks"  # the extension
TRACE_KEYS: Final = frozenset({"traceparent", "tracestate", "baggage"})

# -- JSON-RPC error codes -------------------------------------------------------------------------------
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
RESOURCE_NOT_FOUND: Final = -32002  # legacy only; modern clients get INVALID_PARAMS
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022

# Application codes lie outside -32768…-32000, which JSON-RPC and MCP reserve. They follow the HTTP
# status a person would expect, so that a log line explains itself.
APP_DENIED: Final = 1403
APP_PENDING: Final = 1202
APP_IN_DOUBT: Final = 1409
APP_WITHHELD: Final = 1451
APP_FAILED: Final = 1502
APP_UNAVAILABLE: Final = 1503
APP_UNAUTHENTICATED: Final = 1401

LOG_LEVELS: Final = {
    level: rank
    for rank, level in enumerate(
        ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
    )
}
