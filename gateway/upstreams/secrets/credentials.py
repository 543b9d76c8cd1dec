"""What authenticates the gateway to its upstreams: read in the background, ready when a call goes out.

Each upstream has its own secrets and sees no other's. A call looks up a finished block of bytes; files are
looked at every second and commands run when they are due, never because a call came. When a source fails,
the last good secret is used for a bounded time, and then calls are refused as not sent.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, Literal, Protocol

import msgspec

from gateway.config_upstream import CredentialsConfig, SecretConfig, UpstreamConfig
from gateway.errors import NotSent
from gateway.upstreams.headers import configured
from gateway.upstreams.peer import GATEWAY, Owner, joined
from gateway.upstreams.secrets.secret import (
    FromFile,
    Reading,
    Stamp,
    Unusable,
    header_value,
    source_of,
    variable_value,
)

logger = logging.getLogger("wardgate.credentials")

LOOK_S: Final = 1.0  # between looks at files and clocks
FIRST_READ_S: Final = 5.0  # waited for at start; what takes longer arrives later
RETRY_S: Final = 1.0  # after the first failure; doubles
RETRY_MAX_S: Final = 60.0
RENEW_S: Final = 10.0  # between two readings that refusals of the upstream ask for
_OF_LIFE: Final = 0.8  # a secret that ends is renewed when this much of its life is over


class Secret:
    """One secret in use: its last good value, how long that holds, and when its source is asked again.

    Times are those of the steady clock; scrapes read from another thread, so not those of the event loop.
    """

    def __init__(
        self, upstream: str, name: str, config: SecretConfig, keep_s: float, fit: Callable[[str], bytes]
    ) -> None:
        source = source_of(config)
        assert source is not None
        self.name = name  # "secret", "agents.alice"
        self.source = source
        self.block: bytes | None = None  # header lines, or the value of a variable; None: there is none
        self.generation = 0  # raised by each other value
        self.error = "not read yet"
        self.warning = ""
        self.confirmed = 0.0  # when the source last gave, or still had, what is used
        self.results = {"changed": 0, "unchanged": 0, "failed": 0}
        self._upstream = upstream
        self._refresh_s = config.refresh_s
        self._keep_s = keep_s
        self._fit = fit
        self._failures = 0
        self._due = math.inf
        self._until = math.inf
        self._renewed = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._again = False

    @property
    def state(self) -> Literal["ok", "kept", "unavailable"]:
        if self.block is None:
            return "unavailable"
        return "kept" if self._failures else "ok"

    def read(self) -> asyncio.Task[None]:
        """Ask the source, once for everybody who wants it."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._was_read)
        return self._reading

    def changed(self) -> None:
        """The file is another one; a reading under way may have seen the one before."""
        if self._reading is None:
            self.read()
        else:
            self._again = True

    @property
    def waiting(self) -> bool:
        return self._reading is not None

    def tick(self, now: float) -> None:
        """What time alone changes."""
        if self.block is not None and now >= self._until:
            self.block = None
            self.error = self.error or "it expired"
            logger.error("upstream %s: %s: no longer usable: %s", self._upstream, self.name, self.error)
        if now >= self._due:
            self.read()

    def still_there(self, now: float) -> None:
        """The file is the one that was read."""
        if not self._failures:
            self.confirmed = now

    async def renewed(self, used: bytes, at: float) -> bool:
        """Whether there is another value than ``used``, which the upstream refused; waits until ``at``."""
        now = time.monotonic()
        if self.block == used:
            # An upstream that refuses everything must not make us read or spawn for each call.
            if self._reading is None and (now - self._renewed < RENEW_S or self._failures):
                return False
            self._renewed = now
            with suppress(NotSent):  # not read in time; the call was sent, whatever happens here
                await joined(self.read(), at)
        return self.block is not None and self.block != used

    async def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    # -- reading

    async def _read(self) -> None:
        try:
            reading = await self.source.read()
            if reading.expires_ns is not None and reading.expires_ns <= time.time_ns():
                raise Unusable("it had expired before it was read")
            block = self._fit(reading.value)
        except Unusable as why:
            self._failed(str(why))
        except Exception as error:  # noqa: BLE001 - a fault of ours is a source that cannot be read
            self._failed(type(error).__name__)
        else:
            self._took(reading, block)

    def _was_read(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if self._again and not task.cancelled():
            self._again = False
            self.read()

    def _took(self, reading: Reading, block: bytes) -> None:
        now = time.monotonic()
        if block != self.block:
            self.generation += 1
            self.results["changed"] += 1
            logger.info("upstream %s: %s: %s read", self._upstream, self.name, self.source.kind)
        else:
            self.results["unchanged"] += 1
        if reading.warning and reading.warning != self.warning:
            logger.warning("upstream %s: %s: %s", self._upstream, self.name, reading.warning)
        self.block, self.error, self.warning = block, "", reading.warning
        self.confirmed, self._failures = now, 0
        left = math.inf if reading.expires_ns is None else (reading.expires_ns - time.time_ns()) / 1e9
        self._until = now + left
        if self.source.kind == "command":
            self._due = now + max(LOOK_S, min(self._refresh_s, left * _OF_LIFE))
        else:
            self._due = math.inf

    def _failed(self, why: str) -> None:
        now = time.monotonic()
        self.results["failed"] += 1
        if not self._failures:
            self._until = min(self._until, now + self._keep_s)
        if why != self.error:
            logger.warning("upstream %s: %s: %s", self._upstream, self.name, why)
        self.error = why
        self._due = now + min(RETRY_MAX_S, RETRY_S * 2 ** min(self._failures, 16))
        self._failures += 1
        self.tick(now)


class CredentialState(msgspec.Struct, frozen=True, kw_only=True):
    """How the secrets of one upstream do; nothing of what they are."""

    upstream: str
    ok: int = 0
    kept: int = 0  # the source fails, the last good one is used
    unavailable: int = 0
    age_s: float = 0.0  # since the source of the stalest one in use was last seen good
    results: dict[str, int] = {}  # readings, by what came of them
    refused: int = 0  # answers 401
    sent_again: int = 0  # calls that were sent again with a new secret after that

    @property
    def any(self) -> bool:
        return bool(self.ok or self.kept or self.unavailable)


class Credentials:
    """The secrets of one upstream by principal."""

    def __init__(self, upstream: str, config: UpstreamConfig) -> None:
        mine = config.credentials
        self._upstream = upstream
        self._given = mine.given
        self._variable = mine.variable
        self._fallback = mine.fallback
        self._refused = self._sent_again = 0
        fit = self._fit(mine, config.command is not None)

        def secret(path: str, source: SecretConfig) -> Secret:
            return Secret(upstream, path, source, mine.keep_s, fit)

        self._own = secret("secret", mine.secret) if mine.secret.given else None
        self._agents = {name: secret(f"agents.{name}", each) for name, each in mine.agents.items()}
        self._subjects = {
            (each.tenant, name): secret(f"subjects.{name}", each) for name, each in mine.subjects.items()
        }

    def _fit(self, mine: CredentialsConfig, is_child: bool) -> Callable[[str], bytes]:
        if is_child:
            return lambda value: variable_value(value).encode()
        before, _, after = mine.value.partition("${secret}")
        where = f"upstreams.{self._upstream}.credentials"
        # Checked here with a value of its own, so that a bad name refuses to start and not the first call.
        configured({mine.header: f"{before}x{after}"}, where)
        head, tail = f"{mine.header}: {before}".encode("ascii"), f"{after}\r\n".encode("ascii")
        return lambda value: head + header_value(value).encode("ascii") + tail

    @property
    def given(self) -> bool:
        return self._given

    @property
    def secrets(self) -> Sequence[Secret]:
        own = (self._own,) if self._own is not None else ()
        return (*own, *self._agents.values(), *self._subjects.values())

    def headers(self, owner: Owner) -> bytes:
        """The header lines of a request for ``owner``; raises ``NotSent`` when there must be some."""
        return self._block(owner) if self._given else b""

    def variables(self, owner: Owner) -> dict[str, str]:
        """What the owner's child gets in its environment. Raises like ``headers``."""
        block = self._block(owner) if self._given else b""
        return {self._variable: block.decode()} if self._variable is not None and block else {}

    def generation(self, owner: Owner) -> int:
        """Another number when the owner's secret is another. Raises like ``headers``."""
        if not self._given:
            return 0
        self._block(owner)
        secret = self._of(owner)
        return secret.generation if secret is not None else 0

    async def renewed(self, owner: Owner, used: bytes, at: float) -> bool:
        """After HTTP 401 to ``used``: whether the same call may be sent again with another secret."""
        secret = self._of(owner) if self._given else None
        if secret is None:
            return False
        self._refused += 1
        if not await secret.renewed(used, at):
            return False
        self._sent_again += 1
        logger.info("upstream %s: %s: refused, and sent again renewed", self._upstream, secret.name)
        return True

    def state(self) -> CredentialState:
        now = time.monotonic()
        secrets = self.secrets
        states = [each.state for each in secrets]
        used = [now - each.confirmed for each in secrets if each.block is not None and not _fixed(each)]
        return CredentialState(
            upstream=self._upstream,
            ok=states.count("ok"),
            kept=states.count("kept"),
            unavailable=states.count("unavailable"),
            age_s=max(used, default=0.0),
            results={
                key: sum(each.results[key] for each in secrets) for key in ("changed", "unchanged", "failed")
            },
            refused=self._refused,
            sent_again=self._sent_again,
        )

    def _of(self, owner: Owner) -> Secret | None:
        """The end user's before the agent's; the upstream's own only where that is configured."""
        found = self._subjects.get((owner.tenant, owner.subject)) if owner.subject else None
        if found is None:
            found = self._agents.get(owner.agent)
        if found is None and (self._fallback or owner == GATEWAY):
            found = self._own
        return found

    def _block(self, owner: Owner) -> bytes:
        secret = self._of(owner)
        if secret is None:
            if owner == GATEWAY:
                return b""  # lists are asked for without a credential where the upstream has none of its own
            # Anybody else's credential would let this principal act as that one.
            raise NotSent("credential_unavailable", f"agent '{owner.agent}' has none for {self._upstream}")
        if secret.block is None:
            raise NotSent("credential_unavailable", f"{self._upstream}: {secret.name}: {secret.error}")
        return secret.block


def _fixed(secret: Secret) -> bool:
    return secret.source.kind == "env"


class Watched(Protocol):
    """A file that is read again when it is another."""

    def stamp(self) -> Stamp | None:
        """Blocks, so it is called in a thread."""

    def changed(self) -> None: ...

    def still_there(self, now: float) -> None: ...


class _SecretFile:
    """A secret as ``Keeper`` watches it."""

    def __init__(self, secret: Secret, source: FromFile) -> None:
        self.stamp = source.stamp
        self.changed = secret.changed
        self.still_there = secret.still_there


class Keeper:
    """Keeps the secrets of all upstreams, and other files, current."""

    def __init__(self, secrets: Iterable[Secret], files: Iterable[Watched] = ()) -> None:
        self._secrets = tuple(secrets)
        self._files: tuple[Watched, ...] = (
            *(_SecretFile(each, each.source) for each in self._secrets if isinstance(each.source, FromFile)),
            *files,
        )
        self._starting: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read everything once, waiting a bounded time for it, and keep it current from then on."""
        if not self._secrets and not self._files:
            return
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        known = await asyncio.to_thread(self._stamps)  # before the contents, so that no change is missed
        reading = [secret.read() for secret in self._secrets]
        if reading:
            await asyncio.wait(reading, timeout=FIRST_READ_S)
        self._tasks = [asyncio.create_task(self._tick())]
        if self._files:
            self._tasks.append(asyncio.create_task(self._look(known)))

    async def close(self) -> None:
        tasks = [*self._tasks, *((self._starting,) if self._starting is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(secret.stop() for secret in self._secrets))

    def _stamps(self) -> list[Stamp | None]:
        return [file.stamp() for file in self._files]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for secret in self._secrets:
                secret.tick(time.monotonic())

    async def _look(self, known: list[Stamp | None]) -> None:
        """Apart from ``_tick``: a file system that hangs must not keep secrets from expiring."""
        while True:
            await asyncio.sleep(LOOK_S)
            found = await asyncio.to_thread(self._stamps)
            for file, before, now in zip(self._files, known, found, strict=True):
                if before != now:
                    file.changed()
                else:
                    file.still_there(time.monotonic())
            known = found
