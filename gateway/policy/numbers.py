"""Numbers that mean the same in the embedded engine and in OPA.

The embedded engine knows ``2.0`` and ``2`` as one number and writes it ``2``; OPA keeps it as it was written.
So OPA is given whole floats as integers. What stays different is arithmetic on fractions: 64-bit floats here,
longer ones there (docs/explanation/policy.md).
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

_FLOAT: Final = re.compile(rb"\d(?:\.\d|[eE]-?\d)")
_MOST: Final = 2.0**63


def whole(payload: bytes) -> bytes:
    """The same JSON with whole floats within 64 bits as integers; the same object when there are none."""
    if _FLOAT.search(payload) is None:
        return payload
    value = orjson.loads(payload)
    changed = _whole(value)
    return payload if changed is value else orjson.dumps(changed)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        items = {key: _whole(item) for key, item in value.items()}
        return items if any(items[key] is not value[key] for key in items) else value
    if isinstance(value, list):
        parts = [_whole(item) for item in value]
        return parts if any(one is not other for one, other in zip(parts, value, strict=True)) else value
    if isinstance(value, float) and value.is_integer() and abs(value) < _MOST:
        return int(value)
    return value
