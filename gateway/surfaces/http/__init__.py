"""The HTTP front for agents: run a tool, or ask for a decision and report what became of it.

app.py          the FastAPI app and its description
front.py        what stands before it: Host, duplicate headers, media type, size, time, strict JSON, the key
calls.py        POST /v1/calls
decisions.py    POST /v1/decide, POST /v1/settle
reads.py        GET /v1/tools, GET /v1/decisions
extauthz.py     Envoy's ext_authz contract
opened.py       decisions whose outcome is still to come
late.py         what a report is worth that comes after that
once.py         idempotency keys
replies.py      from an answer of the pipeline to an HTTP response
"""

from gateway.surfaces.http.app import HttpSurface
from gateway.surfaces.http.deps import HttpDeps, Ledger, Past

__all__ = ["HttpDeps", "HttpSurface", "Ledger", "Past"]
