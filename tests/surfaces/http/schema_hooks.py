"""What the schema cannot say, for schemathesis."""

from __future__ import annotations

import itertools
import os
import re
from typing import Any

import schemathesis

_PLAIN = re.compile(r"[!#-\[\]-~]{1,255}")
_numbers = itertools.count()


@schemathesis.auth()
class AgentKey:
    def get(self, case: Any, context: Any) -> str:
        return os.environ["KEY"]

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A key that is used again with another request is refused."""
    headers = case.headers or {}
    key = headers.get("Idempotency-Key")
    if isinstance(key, str) and _PLAIN.fullmatch(key):
        headers["Idempotency-Key"] = f"{key[:240]}-{next(_numbers)}"


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Integers go up to 64 bits, fractions to 2^53: other tests are about what is beyond."""
    stack = [body]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif (isinstance(item, int) and not -(2**63) <= item < 2**64) or (
            isinstance(item, float) and not -(2**53) < item < 2**53
        ):
            return False
    return True
