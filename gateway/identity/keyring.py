"""The keys of one issuer over time: fetched on a schedule, when a token names an unknown one, and kept for
a while when the issuer is down.

    empty ──fetched──▶ fresh ──refresh_s without a fetch──▶ stale ──stale_s more──▶ unusable
                         ▲───────────────────fetched──────────┴───────────────────────┘

Whatever tokens come in, the issuer is asked at most once in ``refresh_least_s``, by one fetch that all who
need it wait for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final, Literal

from gateway.config_identity import IssuerConfig
from gateway.errors import Unauthenticated
from gateway.identity import jwks
from gateway.identity.fetch import Fetch, NotFetched
from gateway.identity.jwks import BadKeys, Key, KeySet

logger = logging.getLogger("wardgate.identity")

MAX_WAITING: Final = 64
"""Requests that may wait for one issuer's keys; each holds a connection of somebody not yet known."""

_AGAIN_S: Final = 1.0
_S: Final = 1_000_000_000
_FOREVER: Final = 1 << 62

State = Literal["empty", "fresh", "stale", "unusable"]


class Keyring:
    """The keys in use. ``usable_until_ns`` is looked at whenever a token is believed, remembered or not."""

    def __init__(
        self, name: str, config: IssuerConfig, fetch: Fetch, now_ns: Callable[[], int],
        changed: Callable[[Keyring], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.set = KeySet()
        self.usable_until_ns = 0
        self.failure = ""  # of the last fetch
        self.fetched_ns = 0
        self.fetches = 0
        self.ahead_s = 0.0  # the issuer's clock against ours, when it was last heard
        self._config = config
        self._fetch = fetch
        self._now_ns = now_ns
        self._changed = changed
        self._began = -1e9
        self._waiting = 0
        self._flight: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None

    @classmethod
    def shared(cls, name: str, config: IssuerConfig, secret: bytes, now_ns: Callable[[], int]) -> Keyring:
        """The keyring of an issuer with a shared secret, which is never fetched and never ages."""

        async def nothing() -> None:
            raise NotFetched("a shared secret is not fetched")

        ring = cls(name, config, nothing, now_ns, lambda _: None)  # type: ignore[arg-type]  # never returns
        ring.set = jwks.shared(secret)
        ring.usable_until_ns = _FOREVER
        return ring

    def start(self) -> None:
        """Fetch now and on schedule, on the running loop."""
        if self._loop is None and self.usable_until_ns != _FOREVER:
            self._loop = asyncio.create_task(self._run())

    def stop(self) -> None:
        for task in (self._loop, self._flight):
            if task is not None:
                task.cancel()

    @property
    def revision(self) -> str:
        """Changes when a key comes or goes."""
        prints = sorted((key.kid or "", key.print, sorted(key.algorithms)) for key in self.set.keys)
        return sha256(repr(prints).encode()).hexdigest()[:16]

    @property
    def usable(self) -> int:
        """How many keys are in use now."""
        return len(self.set.keys) if self._now_ns() < self.usable_until_ns else 0

    def state(self) -> State:
        if self.usable_until_ns == 0:
            return "empty"
        now = self._now_ns()
        if now >= self.usable_until_ns:
            return "unusable"
        late = self.usable_until_ns != _FOREVER and now >= self.fetched_ns + int(self._config.refresh_s * _S)
        return "stale" if late and self.failure else "fresh"

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key a token means, if it is known now; raises ``Unauthenticated`` when no key is usable."""
        if self._now_ns() >= self.usable_until_ns:
            raise Unauthenticated("issuer_unavailable", f"{self.name}: {self.failure or 'no keys yet'}")
        if not self.set.keys:
            raise Unauthenticated("issuer_unavailable", f"{self.name}: publishes no usable key")
        # There is one shared secret, whatever its issuer calls it.
        return self.set.find(None if self.usable_until_ns == _FOREVER else kid, algorithm)

    def knows(self, kid: str | None, algorithm: str) -> bool:
        """Whether ``find`` would give a key without anything being fetched."""
        return self.usable_until_ns == _FOREVER or (
            self._now_ns() < self.usable_until_ns and self.set.find(kid, algorithm) is not None
        )

    async def refresh(self) -> None:
        """Wait for newer keys, unless they were asked for a moment ago. Raises only for a crowd."""
        if self.usable_until_ns == _FOREVER:
            return
        if self._flight is None:
            # Tokens with made-up keys must not become a flood against the issuer.
            if time.monotonic() - self._began < self._config.refresh_least_s:
                return
            self._began = time.monotonic()
            self._flight = asyncio.create_task(self._fetch_once())
            self._flight.add_done_callback(self._landed)
        # A slow issuer must not let strangers hold connections without end.
        if self._waiting >= MAX_WAITING:
            raise Unauthenticated("issuer_unavailable", f"{self.name}: too many wait for its keys")
        self._waiting += 1
        try:
            await asyncio.wait((self._flight,))  # one who leaves does not end it for the others
        finally:
            self._waiting -= 1

    async def _run(self) -> None:
        while True:
            await self.refresh()
            pause = self._config.refresh_s
            again = max(_AGAIN_S, self._config.refresh_least_s)
            await asyncio.sleep(min(pause, again) if self.failure else pause)

    async def _fetch_once(self) -> None:
        self.fetches += 1
        try:
            fetched = await self._fetch()
            found = jwks.parse(fetched.document, self._config.algorithms)
        except (NotFetched, BadKeys) as error:
            if str(error) != self.failure:
                logger.warning("keys of issuer not fetched", extra={"what": self.name, "error": str(error)})
            self.failure = str(error)
            return
        now = self._now_ns()
        if fetched.server_s is not None:
            self.ahead_s = fetched.server_s - now / _S
        self.failure, self.fetched_ns = "", now
        self.usable_until_ns = now + int((self._config.refresh_s + self._config.stale_s) * _S)
        if found.dropped and found.dropped != self.set.dropped:
            logger.warning(
                "keys of issuer not used", extra={"what": self.name, "error": "; ".join(found.dropped)}
            )
        if found != self.set:
            self.set = found
            logger.info("keys of issuer changed", extra={"what": self.name, "count": len(found.keys)})
            self._changed(self)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flight = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = f"fault while fetching: {type(error).__name__}"
            logger.error("keys of issuer not fetched", exc_info=error)
