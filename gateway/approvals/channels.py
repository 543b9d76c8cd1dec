"""Chat, mail and paging about approvals, by apprise (https://appriseit.com), which knows the services.

apprise blocks, and how long depends on the service, so each channel has a thread and a bounded queue of its
own: a dead one holds up nobody and shows in the metrics. The library is imported by these threads only, and
only where a channel is configured. A message names the tool, the agent and the codes, and a link; what would
be sent is not in it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.approvals.values import EnvelopeNotice, Notice
from gateway.approvals.words import fields
from gateway.errors import ConfigError

logger = logging.getLogger("wardgate.approvals")

MAX_WAITING: Final = 200
RESULTS: Final = ("delivered", "failed", "retried", "dropped")
_PAUSES_S: Final = (1.0, 4.0, 15.0)
_KINDS: Final = {
    "escalated": "warning", "in_doubt": "failure", "expired": "warning", "incident": "failure",
    "envelope_opened": "failure", "envelope_asked": "warning", "discharged": "warning",
    "executed": "success", "approved": "success", "failed": "failure",
}  # fmt: skip
_LOCAL: Final = ("dbus", "gnome", "kde", "qt", "glib", "macosx", "windows", "syslog", "blink1")
"""Services of apprise that speak to the machine it runs on, which has no reviewers in front of it."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How one channel or webhook does."""

    name: str
    results: Mapping[str, int]
    waiting: int
    last_s: float  # when something was last delivered; 0 for never


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of the configuration. ``read`` gives its address, which is a secret."""

    name: str
    env: str | None
    file: Path | None
    events: tuple[str, ...]
    chains: tuple[str, ...] = ()  # all when empty
    tenant: str = "default"
    timeout_s: float = 10.0
    link: str = ""

    def wants(self, notice: Notice | EnvelopeNotice) -> bool:
        if isinstance(notice, EnvelopeNotice):
            tenant, chains = notice.tenant, set(notice.said.get("chains", ()))
        else:
            tenant = notice.approval.tenant
            chains = {each.chain for each in notice.approval.requirements}
        return (
            tenant == self.tenant
            and notice.event in self.events
            and (not self.chains or not chains.isdisjoint(self.chains))
        )


Read = Callable[[Channel], str]
"""Reads the address of a channel; raises ``ConfigError`` without quoting anything of it."""


def installed() -> bool:
    return find_spec("apprise") is not None


def service(channel: Channel, address: str) -> Any:
    """The apprise object that delivers there; ``ConfigError`` when there is no such service. Blocks."""
    import apprise

    asset = apprise.AppriseAsset(
        app_id="wardgate",
        app_desc="wardgate approvals",
        plugin_paths=[],  # no code from the disk
        storage_mode="memory",  # nothing of it on the disk
        allow_templates=False,  # what we say is text, never a template
        secure_logging=True,
        service_timeout=channel.timeout_s,
    )
    schema = address.partition("://")[0].lower()
    made = apprise.Apprise(asset=asset)
    if schema in _LOCAL or not made.add(address) or len(made) != 1:
        raise ConfigError(
            f"approvals.channels.{channel.name}: not one address of a service apprise knows"
            " (https://appriseit.com/services)"
        )
    for each in made:
        each.socket_connect_timeout = each.socket_read_timeout = channel.timeout_s
    return made


def title_and_body_of_envelope(notice: EnvelopeNotice) -> tuple[str, str]:
    """What a person reads of break-glass, as plain text."""
    said, opening = notice.said, notice.said["opening"]
    step = notice.event.removeprefix("envelope_")
    by = {"asked": "asked_by", "opened": "seconded_by", "closed": "closed_by"}[step]
    lines = [
        f"{said['name']}: {said.get('title', '')}",
        f"{step} by {opening[by]}, for {opening['minutes']} min",
        f"calls: {opening['uses']} of {opening['max_uses']}",
        f"reason: {opening['reason']}",
        f"agents: {', '.join(said.get('agents', ()))}, of {', '.join(said.get('owners', ())) or 'nobody'}",
        f"tools: {', '.join(said.get('tools', ()))}",
    ]
    return f"Break-glass {step}: {said['name']}", "\n".join(lines)


def title_and_body(notice: Notice, link: str) -> tuple[str, str]:
    """What a person reads, as plain text."""
    said = fields(notice)
    until = datetime.fromtimestamp(notice.approval.decide_by_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"{said['tool']} ({said['risk']}), called by {said['agent']}",
        f"because of {said['codes']}",
        f"approval {said['id']}, {notice.approval.state}",
    ]
    if notice.approval.state == "pending":
        lines.append(f"decide by {until}")
    if link:
        lines.append(link.replace("{id}", notice.approval.id))
    return said["what"], "\n".join(lines)


class Worker(threading.Thread):
    """Delivers to one channel. A daemon: a service that never answers must not keep the process alive."""

    def __init__(
        self, channel: Channel, read: Read, *, pauses_s: Sequence[float] = _PAUSES_S, most: int = MAX_WAITING
    ) -> None:
        super().__init__(name=f"channel {channel.name}", daemon=True)
        self.channel = channel
        self.results = dict.fromkeys(RESULTS, 0)
        self.last_s = 0.0
        self._read = read
        self._pauses_s = pauses_s
        self._waiting: queue.Queue[Notice | EnvelopeNotice | None] = queue.Queue(most)
        self._over = threading.Event()
        self._address = ""
        self._service: Any = None

    def put(self, notice: Notice | EnvelopeNotice) -> None:
        """Never blocks."""
        try:
            self._waiting.put_nowait(notice)
        except queue.Full:
            self.results["dropped"] += 1

    def stop(self) -> None:
        """End soon; what waits is not delivered."""
        self._over.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return  # it wakes by itself, and sees that it is over

    def delivery(self) -> Delivery:
        return Delivery(
            name=self.channel.name, results=dict(self.results), waiting=self._waiting.qsize(),
            last_s=self.last_s,
        )  # fmt: skip

    def run(self) -> None:
        while not self._over.is_set():
            notice = self._waiting.get()
            if notice is None or self._over.is_set():
                return
            delivered = self._tell(notice)
            self.results["delivered" if delivered else "failed"] += 1
            if delivered:
                self.last_s = time.time()
            else:
                logger.warning("channel %s: given up on %s", self.channel.name, notice.event)

    def _tell(self, notice: Notice | EnvelopeNotice) -> bool:
        if isinstance(notice, EnvelopeNotice):
            title, body = title_and_body_of_envelope(notice)
        else:
            title, body = title_and_body(notice, self.channel.link)
        kind = _KINDS.get(notice.event, "info")
        for pause in (*self._pauses_s, None):
            try:
                if self._current().notify(body=body, title=title, notify_type=kind, body_format="text"):
                    return True
            except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; its text may be a secret
                logger.warning("channel %s: %s", self.channel.name, type(error).__name__)
            if pause is None or self._over.wait(pause):
                return False
            self.results["retried"] += 1
        return False

    def _current(self) -> Any:
        """The service at its address as it is now: a file may have been replaced."""
        address = self._read(self.channel)
        if self._service is None or address != self._address:
            self._service, self._address = service(self.channel, address), address
        return self._service


class Channels:
    """All channels in force. ``read`` is given a channel and gives its address."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._workers: dict[str, Worker] = {}

    def check(self, wanted: Mapping[str, Channel]) -> None:
        """Raises ``ConfigError`` for one that could deliver nothing. Blocks: apprise is imported for it."""
        for channel in wanted.values():
            service(channel, self._read(channel))

    def configure(self, wanted: Mapping[str, Channel]) -> None:
        for name, worker in list(self._workers.items()):
            if wanted.get(name) != worker.channel:
                del self._workers[name]
                worker.stop()
        for name, channel in wanted.items():
            if name not in self._workers:
                self._workers[name] = Worker(channel, self._read)
                self._workers[name].start()

    def tell(self, notice: Notice | EnvelopeNotice) -> None:
        """Never blocks."""
        for worker in self._workers.values():
            if worker.channel.wants(notice):
                worker.put(notice)

    def deliveries(self) -> list[Delivery]:
        """How each channel does, for the metrics."""
        return [worker.delivery() for worker in self._workers.values()]

    def close(self) -> None:
        self.configure({})
