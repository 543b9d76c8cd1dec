"""Remembering answers of modules that read only what changes rarely.

A module without clock, network or randomness (the gate sees to that) is a function of the values it reads,
so the key is those values as encoded for the engine, and nothing has to be invalidated: a new revision has
a new memo, a changed fact another key.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class Memo(Generic[V]):
    """A bounded LRU from encoded input to answer."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[bytes, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> V | None:
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        return value

    def put(self, key: bytes, value: V) -> None:
        self._kept[bytes(memoryview(key))] = value  # a copy: orjson's hold 4 KB for 300 B
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
