"""The composition root: the only place where implementations are named, and how they fit together.

``Gateway`` opens what lasts (storage, journal, telemetry, sessions) and builds what a reload may replace
(keys, policy, upstreams with their catalog). ``parts`` is swapped in one assignment, so a request sees the
old gateway or the new one and never half of each.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

import msgspec
from starlette.types import ASGIApp

from gateway import __version__, builtin, builtin_held, gauges, overview, replaced, watch
from gateway.approvals.absent import NoApprovals
from gateway.approvals.values import SYSTEM
from gateway.builtin import INFO, OwnUpstream, WithOwn
from gateway.clock import SystemClock
from gateway.config import Config, load
from gateway.config_sessions import offers_tool, session_rules
from gateway.desk import Desk
from gateway.errors import ConfigError
from gateway.guarded import Guarded
from gateway.held import Held
from gateway.identity.authenticator import Authenticator, Stored
from gateway.identity.directory import Directory
from gateway.identity.people import PeopleSignIn
from gateway.journal.doubts import Doubts
from gateway.journal.journal import Journal
from gateway.journal.query import Filter, Query
from gateway.journal.recorded import Inputs
from gateway.journal.recovery import recover
from gateway.limits import InFlight
from gateway.looking import Looking
from gateway.model import OWN, Revisions, Tool, Verified
from gateway.outside import Outside
from gateway.policy.opa import OpaPolicy
from gateway.policy.policy import EmbeddedPolicy
from gateway.policy.trial import Trial
from gateway.ports import Parts, Upstreams
from gateway.reconciling import Doubt, Reconciler
from gateway.remembered import Remembered
from gateway.reviewed import Reviewed
from gateway.rollout import Found, Rollout
from gateway.storage import control
from gateway.storage.credentials import Credentials
from gateway.storage.crypto import StorageKey, load_key
from gateway.storage.idempotency import IdempotencyKeys
from gateway.storage.pins import Pins
from gateway.storage.place import place
from gateway.storage.revocations import TokenRevocations
from gateway.storage.rollouts import Rollouts
from gateway.surfaces.admin.app import create_admin
from gateway.surfaces.admin.deps import AdminDeps
from gateway.surfaces.agents import AgentsPort
from gateway.surfaces.console import create_console
from gateway.surfaces.http import HttpSurface
from gateway.surfaces.mcp import McpSurface, ServerInfo
from gateway.surfaces.wellknown import WellKnown
from gateway.tasks import Tasks
from gateway.telemetry import telemetry
from gateway.trusted import Trusted
from gateway.verification import Verifications

logger = logging.getLogger("wardgate.app")

CONTROLS: Final = (
    "identity:keys+tokens+proxy",
    "pins:database",
    "journal:sqlite",
    "effects:memory",
    "sessions:memory",
    "budgets:memory",
    "labels:memory",
    "provenance:memory",
    "monitors:memory",
    "approvals:absent",
    "kills:database",
    "trust:absent",
)
"""What runs and what is not there, in every record, so that nobody reads protection into silence."""

_RECORDED: Final = 1000
"""Calls a changed policy is tried on before it is put in force."""

_LASTING: Final = ("server", "storage", "telemetry")
"""Sections of the configuration that a reload cannot change."""


class Gateway:
    """One running gateway. ``async with`` opens it; leaving it closes everything in reverse order."""

    parts: Parts
    outside: Outside

    def __init__(self, config_path: Path) -> None:
        self.path = config_path
        # Before the file is read, so that a change while the gateway starts is seen as one.
        self._file_state = watch.file_state(config_path) if config_path.exists() else None
        self.config = load(config_path)
        self.started_ns = time.time_ns()
        self.reload_failure = ""  # why the last reload was refused
        self.clock = SystemClock()
        self.limits = InFlight(self.config.limits)
        self.directory = Directory(self.clock.now_ns)
        self.authenticator = Authenticator(self.directory)
        self._config_revision = _revision(self.config)
        self._people: PeopleSignIn | None = None
        self._reloading = asyncio.Lock()
        self._reading_keys = asyncio.Lock()
        self._stack = AsyncExitStack()
        self.tasks = Tasks()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self, stack: AsyncExitStack) -> None:
        config = self.config
        key = load_key(config.storage.key_file)
        self.database = stack.enter_context(place(config.storage).open(gateway=True))
        self.credentials = Credentials(self.database)
        self.pins = Pins(self.database)
        pin_epoch = self._pin_epoch()
        self.revocations = TokenRevocations(self.database)
        epochs = self._epochs()  # before the keys are read: one revoked while the gateway starts is seen
        self.authenticator.load(self._stored(), config)
        stack.push_async_callback(self.authenticator.close)
        recovered = await asyncio.to_thread(recover, self.database)
        if recovered.in_doubt:
            logger.warning("calls in doubt after a crash", extra={"calls": recovered.in_doubt})

        self.idempotency = IdempotencyKeys(
            self.database,
            key,
            self.clock.now_ns,
            config.limits,
            keep_answers=config.storage.payload_days > 0,  # they hold results
        )
        stack.callback(self.idempotency.close)
        self.telemetry = telemetry.build(config.telemetry, version=__version__, instance=_instance())
        stack.callback(self.telemetry.shutdown)
        self._key = key
        self.rollout = Rollout(
            Rollouts(self.database), self.clock, self.telemetry.metrics, self._try_on_recorded
        )
        stack.push_async_callback(self.rollout.close)
        rollout_epoch = await asyncio.to_thread(self.rollout.store.epoch)
        self.policy, found = await self.rollout.load(config, first=True)
        stack.push_async_callback(self._close_policy)
        await asyncio.to_thread(self.rollout.keep, found, self.policy.revision)
        self.journal = Journal(
            self.database,
            key,
            clock=self.clock,
            settings=config.storage,
            revisions=self.revisions,
            controls=_controls(config),
        )
        self.reviewed = Reviewed(self.database, key, self.clock, self.telemetry, lambda: self)
        stack.callback(self.reviewed.channels.close)
        await self.reviewed.check(config)
        self.telemetry.metrics.watch_pins(lambda: overview.quarantined(self))
        self.telemetry.metrics.watch_issuers(lambda: overview.issuer_stats(self.authenticator))
        self.telemetry.metrics.watch_records(self.database.kind, lambda: overview.record_stats(self.journal))
        self.telemetry.metrics.watch_credentials(lambda: overview.credential_stats(self.outside))
        gauges.watch(self)
        acts = self._acts()  # before sessions are read: what is done to one meanwhile is seen
        self.remembered = await Remembered.open(
            self.database, key, self.clock, session_rules(config), self.policy.monitors
        )
        self.desk = Desk(self.remembered, lambda: self.config)
        self.guarded = Guarded(
            self.database, config, self.telemetry, self.desk, self.reviewed, self.tasks,
            steady_ns=self.remembered.state.now_ns, now_ns=self.clock.now_ns,
        )  # fmt: skip
        kill_epochs = self.guarded.epochs()
        await self.guarded.guard.open()
        self.trusted = await Trusted.open(
            self.database, self.guarded.guard, self.remembered.state, self.telemetry.metrics,
            now=lambda: self, took_back=self._took_back, report=self.tasks.start,
        )  # fmt: skip
        self.trust = self.trusted.keeper
        self.reviewed.heard.append(self.trusted.noticed)
        self.reviewed.desk.on_incident.append(self.trusted.incident)
        self.telemetry.metrics.watch_sessions(lambda: overview.session_stats(self.remembered.state))
        self.journal.start()
        stack.push_async_callback(self.guarded.guard.close)
        stack.push_async_callback(self.trust.book.close)
        stack.push_async_callback(self.remembered.keeper.save)
        stack.push_async_callback(self.journal.stop)

        told = (self.journal.verified, self._verified, self.trust.intake.verified)
        self.verifications = Verifications(lambda: self.parts, approvals=NoApprovals(), told=told)
        self.reconciler = self._open_reconciler()
        self.telemetry.metrics.declare_upstreams(config.upstreams)
        self.outside = await self._open_outside(config)
        stack.push_async_callback(self._close_outside)
        stack.push_async_callback(self.verifications.drain, 0)
        self.rollout.now(config, found, self.policy)
        await self.rollout.candidate(config)
        self._put_in_force(config, self.policy, self.outside)
        self.telemetry.metrics.bundle_activated(self.policy.revision, self.clock.now_ns() / 1e9)

        self.mcp = McpSurface(
            lambda: self.parts,
            self.authenticator.agent,
            config.server,
            self._info,
            key.derived("request state"),
            Held(self.reviewed.queue),
        )
        self._hear(self.outside)
        self.http = HttpSurface(overview.http_deps(self))
        stack.callback(self.http.close)
        self.agents_app = WellKnown(AgentsPort(self.mcp, self.http), self.authenticator.documents)
        admin = overview.admin_deps(self)
        self.admin_app = create_admin(admin, self._open_console(admin, key, stack))
        stack.push_async_callback(self.tasks.stop)
        start = self.tasks.start
        start(watch.poll("credentials", self._epochs, self._credentials_changed, known=epochs))
        start(
            watch.poll(
                "configuration",
                lambda: watch.file_state(self.path),
                self._changed_on_disk,
                known=self._file_state,
            )
        )
        start(watch.poll("pins", self._pin_epoch, self.pins_changed, known=pin_epoch))
        start(watch.poll("catalog", lambda: self.outside.catalog.revision, self._declare))
        start(watch.poll("sessions", self._acts, self.remembered.acted, known=acts))
        start(self.remembered.keeper.run())
        start(watch.poll("kills", self.guarded.epochs, self.guarded.guard.changed, known=kill_epochs))
        start(self.guarded.guard.run())
        start(self.trust.book.run())
        start(watch.poll("roll-out", self.rollout.store.epoch, self._rolled_out, known=rollout_epoch))
        start(self.rollout.poll(self._bundle_came))
        start(self.reviewed.sweep())
        start(self.reconciler.run())
        start(self.reviewed.notifier.run())
        start(self.reviewed.oversight.run())
        watched = config.policy.watched
        if config.policy.reload and watched is not None and watched.is_dir():
            start(watch.watch_folder(watched, self._changed_on_disk))
        elif config.policy.reload and watched is not None and watched.is_file():
            state = watch.file_state(watched)
            start(watch.poll("bundle", lambda: watch.file_state(watched), self._changed_on_disk, known=state))

    def _open_console(self, admin: AdminDeps, key: StorageKey, stack: AsyncExitStack) -> ASGIApp | None:
        if not self.config.console.enabled:
            return None
        look = Looking(
            self.reviewed.queue, key, self.pins, parts=lambda: self.parts, bundle=lambda: self.policy.bundle,
            config=lambda: self.config,
        )  # fmt: skip
        stack.callback(look.close)
        stack.push_async_callback(self._close_people)
        return create_console(overview.console_deps(self, admin, look, key.derived("console sign-in")))

    def people(self) -> PeopleSignIn | None:
        """The identity provider of the console as it is configured now."""
        wanted = self.config.console.oidc
        if self._people is not None and self._people.config != wanted:
            self.tasks.start(self._people.close())
            self._people = None
        if self._people is None and wanted is not None:
            self._people = PeopleSignIn(wanted, self.directory.now_ns)
        return self._people

    async def _close_people(self) -> None:
        if self._people is not None:
            await self._people.close()

    def _open_reconciler(self) -> Reconciler:
        journal = Doubts(self.database, self._key, SYSTEM)

        def doubts(targets: Sequence[str]) -> Sequence[Doubt]:
            return [
                Doubt(call_id=call_id, target=target, since_ns=since_ns)
                for target in targets
                for call_id, since_ns in journal.of(target)
            ]

        return Reconciler(
            lambda: self.parts, approvals=NoApprovals(), doubts=doubts, recall=journal.recall,
            say=journal.say, told=self.telemetry.metrics.reconciled,
        )  # fmt: skip

    def _took_back(self, tenant: str, agent: str) -> None:
        """A tier fell: what reviewers granted for a while ends with it."""
        self.tasks.start(asyncio.to_thread(self.reviewed.take_back, tenant, agent))

    # ----------------------------------------------------------------------------------- in force

    def revisions(self) -> Revisions:
        return Revisions(
            config=self._config_revision,
            keys=self.authenticator.revision,
            policy=self.policy.revision,
            catalog=self.outside.catalog.revision,
        )

    def _put_in_force(self, config: Config, policy: EmbeddedPolicy, outside: Outside) -> None:
        """Swap everything a request sees, with nothing awaited in between."""
        self.config, self.policy, self.outside = config, policy, outside
        self.reviewed.configure(config)
        outside.registry.policy_revision = lambda: self.policy.revision
        self._config_revision = _revision(config)
        self.limits.resized(config.limits)
        self.journal.configured(_controls(config))
        self.remembered.state.rules = session_rules(config)
        self.guarded.configure(config)
        self.trust.configured(config.trust.settings(), enabled=config.trust.enabled)
        self.remembered.state.trusted = self.trusted.of_lists(policy, enabled=config.trust.enabled)
        own = _own_tools(config)
        self.remembered.state.sessions.monitors = policy.monitors
        self.idempotency.limits = config.limits
        self.parts = Parts(
            clock=self.clock,
            catalog=WithOwn(outside.catalog, own) if own else outside.catalog,
            state=self.rollout.state(self.remembered.state),
            policy=self.rollout.governed(policy),
            approvals=self.reviewed.queue,
            journal=self.journal,
            upstreams=self._own_before(outside.registry) if own else outside.registry,
            telemetry=self.telemetry,
            limits=self.limits,
            breakers=self.guarded.guard,
            trust=self.trust,
            controls=_controls(config),
            verifications=self.verifications,
        )
        self._name_metrics()

    def _hear(self, outside: Outside) -> None:
        """Pass on what these upstreams say of resources that changed."""
        outside.registry.on_updated = self.mcp.changes.updated

    def _own_before(self, upstreams: Upstreams) -> Upstreams:
        titles = {module.id: module.meta.title for module in self.policy.bundle.rules if module.meta}
        return OwnUpstream(
            upstreams, self.desk, Query(self.database), self.clock, lambda: titles,
            look=self.reviewed.desk.agent_looks, reply=self.reviewed.desk.agent_answers,
        )  # fmt: skip

    def _info(self, upstream: str) -> ServerInfo | None:
        if upstream == OWN and isinstance(self.parts.catalog, WithOwn):
            return INFO
        return self.outside.registry.info(upstream)

    def _name_metrics(self) -> None:
        bundle = self.policy.bundle
        self.telemetry.metrics.declare_chains(self.config.approvals.chains)
        own = (OWN,) if isinstance(self.parts.catalog, WithOwn) else ()
        self.telemetry.declare(
            upstreams=(*self.outside.catalog.upstreams, *own),
            tools=(*self.parts.catalog.tools("tool"), *self.outside.catalog.elsewhere),
            rules=[module.id for module in bundle.rules],
            codes=bundle.codes,
        )

    def _verified(self, found: Verified) -> None:
        """What trust and milestones will hear too."""
        self.telemetry.metrics.verified(found.result)

    # ------------------------------------------------------------------------------------- reload

    async def reload(self, offered: Found | None = None) -> Mapping[str, str]:
        """Read configuration, keys and policy again and put them in force together.

        ``offered`` is a policy the remote source has just brought.

        Raises ``ConfigError`` and keeps what was in force when anything is wrong with the new.
        """
        async with self._reloading:
            try:
                config = await asyncio.to_thread(load, self.path)
                changed = [name for name in _LASTING if getattr(config, name) != getattr(self.config, name)]
                if config.policy.engine != self.config.policy.engine:
                    changed.append("policy.engine")  # every record names what decides
                if changed:
                    raise ConfigError(f"{', '.join(changed)}: changes here need a restart of the gateway")
                await self.reviewed.check(config)
                policy, found = await self.rollout.load(config, offered=offered)
            except ConfigError as error:
                self.telemetry.metrics.bundle_failed()
                if offered is None:  # what is wrong with the source is the roll-out's to say, and to forget
                    self.reload_failure = str(error)
                raise
            self.reload_failure = ""
            before = self.outside
            keep = Outside.depends_on(config) == Outside.depends_on(self.config)
            outside = before if keep else await self._open_outside(config)
            if policy.revision == self.policy.revision and not isinstance(policy, OpaPolicy):
                policy = self.policy  # what it remembers is still true
            await asyncio.to_thread(self.rollout.keep, found, policy.revision)
            await replaced.warm(policy, outside)
            before_policy = self.policy
            # Two readers at once could finish in the other order, and bring a revoked key back to life.
            async with self._reading_keys:
                stored = await asyncio.to_thread(self._stored)
                self.authenticator.load(stored, config)
                self.rollout.now(config, found, policy)
                self._put_in_force(config, policy, outside)
            self.telemetry.metrics.bundle_activated(policy.revision, self.clock.now_ns() / 1e9)
            if before_policy is not policy:
                self.tasks.start(replaced.cool(before_policy, config))
                if isinstance(before_policy, OpaPolicy):
                    self.tasks.start(replaced.withdraw(before_policy, config, lambda: self.policy.revision))
            if keep:
                outside.relist()
            else:
                self._hear(outside)
                self.tasks.start(self.mcp.changes.renew())
                self.tasks.start(replaced.retire(before, config))
            self.mcp.changes.catalog_changed()  # policy may show other tools than before
            in_force: dict[str, str] = msgspec.structs.asdict(self.revisions())
            logger.info("reloaded", extra=in_force)
            return in_force

    async def _bundle_came(self, found: Found) -> None:
        await self.reload(found)

    async def _rolled_out(self) -> None:
        """An operator started, promoted, stopped or took back a policy, by the command line."""
        if await self.rollout.moved():
            await self._changed_on_disk()
        async with self._reloading:
            if await self.rollout.candidate(self.config):
                self._put_in_force(self.config, self.policy, self.outside)

    def _try_on_recorded(self, trial: Trial, revision: str) -> None:
        """What the policy that comes would have said of the calls recorded last, into the log. Blocking."""
        self.rollout.replayed(trial, revision, Inputs(self.database, self._key).read(Filter(), _RECORDED))

    def reload_soon(self) -> None:
        """For signal handlers."""
        self.tasks.start(self._changed_on_disk())

    async def _changed_on_disk(self) -> None:
        try:
            await self.reload()
        except ConfigError as error:
            logger.error("not reloaded, the last good configuration stays in force: %s", error)

    def _stored(self) -> Stored:
        return Stored(self.credentials.list(), self.revocations.current())

    def _epochs(self) -> Mapping[str, int]:
        return control.read(self.database, control.CREDENTIALS, control.TOKENS, control.RESOLUTIONS)

    async def _credentials_changed(self) -> None:
        """A key was issued, a key or token revoked, or a call in doubt resolved, by the command line."""
        async with self._reading_keys:
            stored = await asyncio.to_thread(self._stored)
            self.authenticator.load(stored, self.config)
        await self.remembered.caught_up()
        await self.trust.intake.reconciled()
        logger.info("keys and resolutions read again", extra={"keys": self.authenticator.revision})

    def _acts(self) -> int:
        return control.read(self.database, control.SESSIONS)[control.SESSIONS]

    def _pin_epoch(self) -> int:
        return control.read(self.database, control.PINS)[control.PINS]

    async def pins_changed(self) -> None:
        """A definition was accepted or rejected, by the command line or the admin API."""
        await self.outside.catalog.judge_again()

    async def _open_outside(self, config: Config) -> Outside:
        return await Outside.open(config, self.clock, self.pins, self.telemetry.metrics.pin_event)

    async def _declare(self) -> None:
        self._name_metrics()
        self.mcp.changes.catalog_changed()

    # ---------------------------------------------------------------------------------------- end

    async def drain(self, seconds: float) -> None:
        """Refuse new calls, wait for those in flight and verify what ended, at most ``seconds`` in all."""
        until = self.clock.monotonic() + seconds
        self.limits.close()
        self.mcp.close()
        self.reviewed.desk.close()
        try:
            async with asyncio.timeout(seconds):
                await self.limits.idle.wait()
        except TimeoutError:
            logger.warning("calls cut off while draining", extra={"calls": self.limits.total})
        await self.verifications.drain(until - self.clock.monotonic())

    async def _close_policy(self) -> None:
        if isinstance(self.policy, OpaPolicy):
            # Another gateway may decide by the same revision in the same OPA, so it stays there.
            await self.policy.close(remove=False)

    async def _close_outside(self) -> None:
        await self.outside.close(0)


def _own_tools(config: Config) -> tuple[Tool, ...]:
    """The gateway's own tools, each where there is something to say with it."""
    session = (builtin.TOOL,) if offers_tool(config) else ()
    return (*session, builtin_held.TOOL) if config.approvals.chains else session


def _controls(config: Config) -> tuple[str, ...]:
    breakers = "memory" if config.breakers.enabled else "off"
    queue = "approvals:database" if config.approvals.chains else "approvals:absent"
    chosen = {"approvals:absent": queue}
    if config.storage.url is not None:
        chosen["journal:sqlite"] = "journal:postgresql"
    if config.trust.enabled:
        chosen["trust:absent"] = "trust:database"
    there = (chosen.get(each, each) for each in CONTROLS)
    return (f"policy:{config.policy.engine}", f"breakers:{breakers}", *there)


def _revision(config: Config) -> str:
    return sha256(config.model_dump_json().encode()).hexdigest()[:16]


def _instance() -> str:
    return f"{os.uname().nodename}:{os.getpid()}"
