"""Which policy decides: the configured source, or a bundle an operator promoted; and how one takes over.

    read → verify → parse → gate → its own tests → recorded calls → put in force

Whatever is wrong on that way leaves what decides deciding, and is said in ``failure``. What was in force is
kept in the storage as it was received, so a restart without the remote source begins with the last good one,
verified again, and one command goes a step back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from gateway.clock import SystemClock
from gateway.config import Config, expand
from gateway.config_policy import PolicyConfig, SourceConfig
from gateway.errors import ConfigError
from gateway.policy import archive as archives
from gateway.policy import signatures
from gateway.policy.aging import AgingPolicy, AgingState, Freshness
from gateway.policy.archive import Archive, BadBundle
from gateway.policy.bundle import read_bundle
from gateway.policy.module import Bundle
from gateway.policy.opa import OpaPolicy
from gateway.policy.opa_target import OpaFault, Target
from gateway.policy.policy import EmbeddedPolicy
from gateway.policy.remote import Remote
from gateway.policy.shadow import RESULTS, Compared, Shadow, ShadowedPolicy, compare
from gateway.policy.signatures import BadSignature, Key, Vouched
from gateway.policy.trial import Trial
from gateway.policy.worker import Load, Said, self_test
from gateway.ports import Policy, State
from gateway.recorded import Recorded
from gateway.storage.rollouts import Difference, Played, Rollouts, Stored
from gateway.telemetry.metrics import Metrics

logger = logging.getLogger("wardgate.rollout")


class Found(NamedTuple):
    """A policy that may be put in force, and where it comes from."""

    archive: Archive | None  # ``None``: a shipped pack without a folder
    label: str  # names it in messages
    part: str  # "source", "active" or "candidate"
    vouched: Vouched | None = None
    seen_ns: int = 0  # when the url was last verified to have it
    trouble: str = ""  # why it is not what the source has now
    remote: Remote | None = None  # whom to ask for the next one
    etag: str = ""


class InForce(NamedTuple):
    policy: EmbeddedPolicy
    found: Found


Reload = Callable[["Found"], Awaitable[object]]
TryOnRecorded = Callable[[Trial, str], None]

_LOT: Final = 64
_EXAMPLES: Final = 5
_IDLE_S: Final = 1.0  # between looks whether there is a url by now


class Rollout:
    """Reads policies for one gateway, polls a remote source and runs the trial of a candidate."""

    def __init__(
        self, store: Rollouts, clock: SystemClock, metrics: Metrics, recorded: TryOnRecorded
    ) -> None:
        self.store = store
        self.failure = ""  # what is wrong with the source; what was in force stays
        self.shadow: Shadow | None = None
        self.freshness: Freshness | None = None
        self.in_force: Found | None = None
        self.replay: Mapping[str, int] = {}  # how recorded calls would have fared under what was loaded last
        self._clock = clock
        self._metrics = metrics
        self._recorded = recorded
        self._remote: Remote | None = None
        self._loaded: tuple[tuple[object, ...], EmbeddedPolicy] | None = None  # of what, and the policy
        self._etag = ""
        self._refused = ""  # digest of what the url has and this gateway refused
        self._tried: Mapping[str, int] = dict.fromkeys(RESULTS, 0)  # by trials that have ended
        metrics.watch_rollout(self._scraped)

    # ------------------------------------------------------------------------------------- in force

    async def load(self, config: Config, *, offered: Found | None = None, first: bool = False) -> InForce:
        """What is to decide now, loaded; raises ``ConfigError`` and changes nothing when it must not."""
        found = offered or await self._find(config, first=first)
        try:
            return InForce(await self._made(config, found, first), found)
        except ConfigError as error:
            if not first or found.part != "source" or found.trouble or config.policy.source.folder:
                raise
            last = await self._last_good(config, found, error)
            return InForce(await self._made(config, last, first), last)

    async def _made(self, config: Config, found: Found, first: bool) -> EmbeddedPolicy:
        if self._loaded is not None and self._loaded[0] == _made_of(config, found):
            return self._loaded[1]  # a reload for another reason
        load = Load(
            raw=found.archive.raw if found.archive else None,
            pack=config.policy.pack,
            label=found.label,
            self_test=config.policy.self_test,
            bundle=True,
        )
        # Nobody waits yet when the gateway starts, and a process of its own takes half a second.
        bundle = await asyncio.to_thread(self._here if first else self._elsewhere, load, found.archive)
        return await _opened(bundle, config.policy, must=not first)

    def now(self, config: Config, found: Found, policy: EmbeddedPolicy) -> None:
        """It is in force: what follows from that. Storing it is left to ``keep``."""
        self.in_force = found
        self._loaded = (_made_of(config, found), policy)
        self.failure = found.trouble
        if found.remote is not self._remote:
            self._remote, self._refused = found.remote, ""
            self.freshness = None
        self._etag = found.etag
        source = config.policy.source
        if source.url is None or found.part != "source":
            self.freshness = None
        elif self.freshness is None:
            seen_ns = found.seen_ns or self._clock.now_ns()
            self.freshness = Freshness(self._clock, seen_ns, source.stale_soft_s, source.stale_hard_s)

    def keep(self, found: Found, revision: str, *, step: bool = True) -> None:
        """Store what the source brought as the last good one. Blocking."""
        if found.archive is None or found.part != "source" or len(found.archive.raw) > archives.MAX_PACKED:
            return
        stored = Stored(
            digest=found.archive.digest, raw=found.archive.raw, origin=found.label, revision=revision
        )
        self.store.source_good(stored, step=step)

    def governed(self, policy: EmbeddedPolicy) -> Policy:
        """The policy as calls meet it: watched by the trial, limited by its age."""
        seen: Policy = policy
        if self.shadow is not None:
            seen = ShadowedPolicy(seen, self.shadow)
        return AgingPolicy(seen, self.freshness) if self.freshness is not None else seen

    def state(self, state: State) -> State:
        return AgingState(state, self.freshness) if self.freshness is not None else state

    # ---------------------------------------------------------------------------------------- finding

    async def _find(self, config: Config, *, first: bool) -> Found:
        parts = await asyncio.to_thread(self.store.parts)
        source = config.policy.source
        remote = self._remote if self._remote is not None and self._remote.of == source else None
        if source.url is not None and remote is None:
            token = expand(source.token, "policy.source.token") if source.token else None
            remote = Remote(source, token)
        if (active := parts.get("active")) is not None and active.digest is not None:
            kept = await asyncio.to_thread(self._stored, active, source, "active")
            return kept._replace(remote=remote)
        now = self.in_force
        # A reload for another reason must not depend on the network: the poller brings what is new.
        if remote is not None and remote is self._remote and now is not None and now.part == "source":
            return await asyncio.to_thread(_checked_again, now, source)
        try:
            if remote is None:
                return await asyncio.to_thread(read_source, config.policy)
            fetched = await remote.fetch()
            assert fetched is not None, "nothing was said to be here"
            found = await asyncio.to_thread(_received, fetched.raw, source)
            return found._replace(remote=remote, etag=fetched.etag, seen_ns=self._clock.now_ns())
        except BadBundle as error:
            pinned = now is not None and now.part == "active"
            if source.folder or not (first or pinned):
                raise
            return await self._last_good(config, Found(None, "", "source", remote=remote), error)

    async def _last_good(self, config: Config, wanted: Found, error: Exception) -> Found:
        """Without its source, or with a bad one, the gateway goes on with what it verified last."""
        last = (await asyncio.to_thread(self.store.parts)).get("source")
        if last is None or last.digest is None:
            raise error
        logger.error("going on with the last good policy: %s", error)
        kept = await asyncio.to_thread(self._stored, last, config.policy.source, "source")
        return kept._replace(remote=wanted.remote, seen_ns=last.seen_ns or 0, trouble=str(error))

    def _stored(self, played: Played, source: SourceConfig, part: str) -> Found:
        """A bundle from the storage, verified as if it had just come."""
        raw = self.store.bundle(played.digest or "")
        if raw is None:
            raise BadBundle("the stored policy bundle is missing; run 'wardgate policy rollout follow'")
        try:
            read = archives.read(raw)
            if read.digest != played.digest:
                raise BadBundle("is not what was stored")
            return Found(read, played.origin, part, vouch(read, source))
        except BadBundle as error:
            remedy = "; 'wardgate policy rollout follow' returns to the configured source"
            raise BadBundle(
                f"the stored policy bundle {played.origin}: {error}{remedy if part == 'active' else ''}"
            ) from error

    def _here(self, load: Load, archive: Archive | None) -> Bundle:
        bundle = read_bundle(None, load.pack, archive, label=load.label)
        problems = self_test(bundle)[0] if load.self_test else []
        if problems:
            raise BadBundle("\n".join(problems))
        return bundle

    def _elsewhere(self, load: Load, archive: Archive | None) -> Bundle:
        with Trial() as trial:
            _, bundle = trial.load(load)
            assert bundle is not None, "it was wanted"
            try:
                self._recorded(trial, bundle.revision)
            except SQLAlchemyError as error:
                # A journal that cannot be read takes the report away, and nothing that the policy needs.
                logger.error("not tried on recorded calls: %s", error)
        return bundle

    # ----------------------------------------------------------------------------------------- remote

    async def poll(self, reload: Reload) -> None:
        """Ask a remote source again and again; runs until cancelled."""
        while True:
            remote = self._remote
            await asyncio.sleep(remote.of.every_s if remote is not None else _IDLE_S)
            if remote is None or remote is not self._remote:
                continue
            try:
                self._metrics.bundle_checked(await self._check(remote, reload))
            except Exception:  # whatever it is, the next question must be asked
                logger.exception("the policy source could not be checked")

    async def _check(self, remote: Remote, reload: Reload) -> str:
        """Ask once; the word for what came of it."""
        source = remote.of
        try:
            fetched = await remote.fetch(self._etag)
        except BadBundle as error:
            self._failed(str(error))
            return "unreachable"
        try:
            if fetched is None:
                if self.in_force is not None and self.in_force.part == "source":
                    await asyncio.to_thread(_checked_again, self.in_force, source)
                await self._seen()
                return "unchanged"
            found = await asyncio.to_thread(_received, fetched.raw, source)
        except BadBundle as error:
            self._failed(str(error))
            return "unverified"
        assert found.archive is not None, "what was received is an archive"
        now = self.in_force.archive if self.in_force is not None else None
        if now is not None and now.digest == found.archive.digest:
            self._etag = fetched.etag
            await self._seen()
            return "unchanged"
        if self.in_force is not None and self.in_force.part == "active":
            return "waiting"  # an operator promoted another one, which decides until they say otherwise
        if found.archive.digest == self._refused:
            return "refused"
        try:
            await reload(found._replace(remote=remote, etag=fetched.etag, seen_ns=self._clock.now_ns()))
        except ConfigError as error:
            self._refused = found.archive.digest
            self._failed(str(error))
            return "refused"
        self._refused = ""
        await self._seen()
        return "activated"

    async def _seen(self) -> None:
        self.failure = ""
        if self.freshness is not None:
            self.freshness.seen_ns = self._clock.now_ns()
            await asyncio.to_thread(self.store.source_seen)

    def _failed(self, why: str) -> None:
        if why != self.failure:
            logger.error("the last good policy stays in force: %s", why)
        self.failure = why

    # --------------------------------------------------------------------------------- recorded calls

    def replayed(self, trial: Trial, revision: str, calls: Iterable[Recorded]) -> None:
        """Report how recorded calls would have fared. It informs; only a fault of the trial refuses."""
        counts: dict[str, int] = dict.fromkeys((*RESULTS[:-1], "not_kept"), 0)
        for lot in _lots(calls, _LOT):
            kept = [(each, each.call) for each in lot if each.call is not None]
            counts["not_kept"] += len(lot) - len(kept)
            answers = trial.decide([(call, each.facts) for each, call in kept]) if kept else []
            for (each, _), candidate in zip(kept, answers, strict=True):
                change = compare(_recorded_said(each), candidate, duties=False)
                counts[change] += 1
                if change != "same" and counts[change] <= _EXAMPLES:
                    logger.info(
                        "would be %s: %s to %s, %s then and %s now (%s)",
                        change, each.call_id, each.target, each.said.verdict, candidate.verdict,
                        candidate.code,
                    )  # fmt: skip
        self.replay = counts
        if sum(counts.values()):
            told = ", ".join(f"{number} {result}" for result, number in counts.items())
            logger.info("tried on recorded calls: %s", told, extra={"revision": revision})

    # ----------------------------------------------------------------------------------------- shadow

    async def moved(self) -> bool:
        """Whether an operator has promoted, taken back or released a policy."""
        active = (await asyncio.to_thread(self.store.parts)).get("active")
        now = self.in_force
        pinned = now.archive.digest if now is not None and now.part == "active" and now.archive else None
        return (active.digest if active is not None else None) != pinned

    async def candidate(self, config: Config) -> bool:
        """Start, change or end the trial as the storage says; whether anything changed."""
        played = (await asyncio.to_thread(self.store.parts)).get("candidate")
        current = self.shadow
        if played is None:
            wanted = None
        else:
            if current is not None and (current.digest, current.percent) == (played.digest, played.percent):
                return False
            wanted = await asyncio.to_thread(self._trial, played, config.policy)
        if current is None and wanted is None:
            return False
        self.shadow = wanted
        if current is not None:
            await asyncio.to_thread(current.close)
            self._tried = {name: self._tried[name] + current.counts[name] for name in RESULTS}
        return True

    def _trial(self, played: Played, policy: PolicyConfig) -> Shadow | None:
        try:
            found = self._stored(played, policy.source, "candidate")
        except BadBundle as error:
            logger.error("the candidate policy is not tried: %s", error)
            return None
        load = Load(
            raw=found.archive.raw if found.archive else None,
            pack=policy.pack,
            label=found.label,
            self_test=policy.self_test,
        )
        shadow = Shadow(
            load, percent=played.percent, digest=played.digest or "", report=lambda each: self._found(each)
        )
        shadow.start()
        return shadow

    def _found(self, compared: list[Compared]) -> None:
        shadow = self.shadow
        self.store.record(
            [
                Difference(
                    at_ns=each.at_ns, candidate=shadow.revision if shadow else "",
                    active=each.active_revision, call_id=each.call.id,
                    tenant=each.call.principal.tenant, agent=each.call.principal.agent,
                    target=each.call.tool.target, change=each.change, verdict=each.active.verdict,
                    code=each.active.code, candidate_verdict=each.candidate.verdict,
                    candidate_code=each.candidate.code, rule=each.rule,
                )
                for each in compared
            ]
        )  # fmt: skip

    def _scraped(self) -> tuple[Mapping[str, int], float | None]:
        counts = self.shadow.counts if self.shadow is not None else {}
        tried = {name: self._tried[name] + counts.get(name, 0) for name in RESULTS}
        return tried, self.freshness.seen_ns / 1e9 if self.freshness is not None else None

    async def close(self) -> None:
        if self.shadow is not None:
            await asyncio.to_thread(self.shadow.close)
        if self._remote is not None:
            await self._remote.close()


def _made_of(config: Config, found: Found) -> tuple[object, ...]:
    """Everything that a policy depends on."""
    digest = found.archive.digest if found.archive is not None else None
    return digest, config.policy.pack, config.policy.self_test, config.policy.opa


async def _opened(bundle: Bundle, policy: PolicyConfig, *, must: bool) -> EmbeddedPolicy:
    """The policy of a bundle, handed to OPA where OPA decides.

    Not ``must``: an OPA that is not there yet is waited for, and calls are refused meanwhile.
    """
    if policy.engine == "embedded":
        return EmbeddedPolicy(bundle)
    made = OpaPolicy(bundle, Target.of(policy.opa))
    try:
        await made.open(must=must)
    except OpaFault as error:
        raise ConfigError(f"policy.opa: {error}") from error
    return made


def _lots(calls: Iterable[Recorded], size: int) -> Iterator[list[Recorded]]:
    rest = iter(calls)
    while lot := list(islice(rest, size)):
        yield lot


def _recorded_said(recorded: Recorded) -> Said:
    findings = recorded.said.findings
    return Said(
        verdict=recorded.said.verdict,
        code=recorded.said.code,
        rule=findings[0].rule if findings else "",
        codes=tuple(sorted({finding.code for finding in findings})),
    )


# ---------------------------------------------------------------------------------------------- reading


def keys(source: SourceConfig) -> dict[str, Key]:
    """The configured keys; raises ``BadBundle`` for one that is missing or cannot do what it should."""
    found = {}
    for name, each in source.verify.keys.items():
        try:
            material = each.file.read_bytes()
        except OSError as error:
            raise BadBundle(f"policy.source.verify.keys.{name}: {each.file}: {error.strerror}") from error
        material = material.strip() if each.algorithm.startswith("HS") else material
        found[name] = Key(name=name, algorithm=each.algorithm, material=material)
        signatures.check_key(found[name])
    return found


def vouch(archive: Archive, source: SourceConfig) -> Vouched | None:
    """Who vouches for the bundle; ``None`` where nobody must. Raises ``BadBundle``."""
    if not source.signed and not (source.verify.keys and archives.SIGNATURES in archive.files):
        return None
    return signatures.verify(archive, keys(source), scope=source.verify.scope, now_s=time.time())


def read_source(policy: PolicyConfig) -> Found:
    """What a folder or file on this machine holds, verified. Blocking."""
    source = policy.source
    if source.file is not None:
        read = archives.read_file(source.file)
        try:
            return Found(read, str(source.file), "source", vouch(read, source))
        except BadBundle as error:
            raise BadBundle(f"{source.file}: {error}") from error
    folder = policy.folder
    assert folder is not None, "a url is fetched"
    if not folder.is_dir() and policy.pack is not None:
        return Found(None, "", "source")  # a pack alone needs no folder
    # Without a pack a folder that is missing must not mean an empty policy.
    if not folder.is_dir():
        raise BadBundle(f"{folder}: no such policy folder. Run 'wardgate init', or set 'policy.pack'.")
    read = of_folder(folder)
    try:
        return Found(read, str(folder), "source", vouch(read, source))
    except BadBundle as error:
        raise BadBundle(f"{folder}: {error}") from error


def of_folder(folder: Path) -> Archive:
    """A folder as the bundle it would be."""
    files = archives.read_folder(folder)
    return Archive(raw=archives.write(files), files=files, manifest=archives.manifest(files))


def _received(raw: bytes, source: SourceConfig) -> Found:
    try:
        read = archives.read(raw)
        return Found(read, str(source.url), "source", vouch(read, source))
    except BadSignature as error:
        raise BadSignature(error.code, f"{source.url}: {error}") from error
    except BadBundle as error:
        raise BadBundle(f"{source.url}: {error}") from error


def _checked_again(found: Found, source: SourceConfig) -> Found:
    """A key may have been taken away since, and a signature expires."""
    assert found.archive is not None, "what came from a url is an archive"
    try:
        return found._replace(vouched=vouch(found.archive, source))
    except BadBundle as error:
        raise BadBundle(f"{found.label}: {error}") from error
