"""A process of its own in which a policy is loaded, tested and tried: ``python -m gateway.policy.worker``.

What is not in force yet must not be felt: parsing, a test that takes for ever, a rule that eats all memory,
or a crash of the engine stay in there, on another core and at a lower priority. It gets a bundle and calls
over its standard input and answers over its output, in frames of a length and MessagePack; it has no network,
no files of the gateway and none of its environment. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import os
import resource
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Final, TypeVar

import msgspec
from msgspec.structs import replace

from gateway import strictjson
from gateway.errors import ConfigError
from gateway.model import Call, Decision, Facts, Principal, Tool
from gateway.policy.archive import read
from gateway.policy.bundle import read_bundle
from gateway.policy.module import Bundle, Module
from gateway.policy.policy import EmbeddedPolicy
from gateway.policy.syntax import Syntax
from gateway.policy.testing import run_tests

MEMORY: Final = 4 * 1024**3
_LENGTH: Final = struct.Struct(">I")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame: what to load, and whether the loaded bundle is wanted back."""

    raw: bytes | None  # an archive; ``None`` for a pack alone
    pack: str | None
    label: str
    self_test: bool
    bundle: bool = False


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the revision, or why it is not to be used."""

    problems: tuple[str, ...] = ()
    revision: str = ""
    tests: int = 0
    modules: int = 0  # how many frames of modules follow; after the bundle without them


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A call to decide. Tools are sent once and named by number."""

    id: str
    principal: Principal
    tool: int
    args_json: bytes
    digest: str
    session: str
    surface: str
    received_ns: int
    facts: Facts
    modified_from: str = ""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    fresh: bool = False  # tools sent before are forgotten
    tools: tuple[tuple[int, Tool], ...]
    calls: tuple[Asked, ...]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy said of a call, as far as two policies are compared by it."""

    verdict: str
    code: str
    rule: str
    codes: tuple[str, ...] = ()  # of all findings of the verdict, sorted
    duties: bytes = b""  # obligations, encoded


def said(decision: Decision) -> Said:
    first = decision.findings[0] if decision.findings else None
    return Said(
        verdict=decision.verdict,
        code=first.code if first else "",
        rule=first.rule if first else "",
        codes=tuple(sorted({finding.code for finding in decision.findings})),
        duties=_encode([(duty.kind, duty.value) for duty in decision.obligations])
        if decision.obligations
        else b"",
    )


def asked(call: Call, facts: Facts, tool: int) -> Asked:
    return Asked(
        id=call.id, principal=call.principal, tool=tool, args_json=call.args_json, digest=call.digest,
        session=call.session, surface=call.surface, received_ns=call.received_ns, facts=facts,
        modified_from=call.modified_from,
    )  # fmt: skip


def self_test(bundle: Bundle) -> tuple[list[str], int]:
    """Why the bundle's own tests speak against it, and how many there are. Shipped ones were run by us."""
    own = tuple(test for test in bundle.tests if not test.file.startswith("shipped/"))
    if not own:
        return [], 0
    report = run_tests(replace(bundle, tests=own))
    return [
        f"{test.file}:{test.line}: the test {test.name} fails: {test.detail}" for test in report.failed
    ], len(report.results)


# ------------------------------------------------------------------------------------------- frames

F = TypeVar("F")
_encode: Final = msgspec.msgpack.Encoder().encode


def send(pipe: IO[bytes], frame: object) -> None:
    data = _encode(frame)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes], kind: type[F]) -> F:
    """The next frame; ``EOFError`` when the other side has ended."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return msgspec.msgpack.decode(data, type=kind)


def take_apart(bundle: Bundle) -> tuple[Bundle, list[Module]]:
    """In pieces that are decoded one by one: one large one would hold the interpreter for its length.

    What the source says in detail was the gate's to know: without it there is little that the garbage
    collector, which also holds the interpreter, would have to go through.
    """
    modules = [*bundle.rules, *bundle.libraries.values()]
    small = [replace(each, syntax=_little(each)) for each in modules]
    return replace(bundle, rules=(), libraries={}, tests=()), small


def _little(module: Module) -> Syntax:
    """Libraries keep what they read: OPA is given each after those it needs."""
    reads = module.syntax.reads if module.role == "library" else ()
    return Syntax(
        package=module.syntax.package,
        reads=reads,
        calls=(),
        rules=(),
        withs=(),
        compared=(),
        walks_assigned=(),
    )


def put_together(bundle: Bundle, modules: Sequence[Module]) -> Bundle:
    return replace(
        bundle,
        rules=tuple(each for each in modules if each.role == "rule"),
        libraries={each.file: each for each in modules if each.role == "library"},
    )


# ------------------------------------------------------------------------------------------ process


def main() -> None:
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.nice(10)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        load = receive(source, Load)
        examined, bundle = examine(load)
        if bundle is None or not load.bundle:
            send(sink, examined)
        else:
            rest, modules = take_apart(bundle)
            send(sink, replace(examined, modules=len(modules)))
            for frame in (rest, *modules):
                send(sink, frame)
        if bundle is not None:
            asyncio.run(_decide(EmbeddedPolicy(bundle), source, sink))


def examine(load: Load) -> tuple[Examined, Bundle | None]:
    """Parse, gate and test."""
    try:
        archive = read(load.raw) if load.raw is not None else None
        bundle = read_bundle(None, load.pack, archive, label=load.label)
    except ConfigError as error:
        return Examined(problems=(str(error),)), None
    failed, tests = self_test(bundle) if load.self_test else ([], 0)
    if failed:
        return Examined(problems=tuple(failed), revision=bundle.revision, tests=tests), None
    return Examined(revision=bundle.revision, tests=tests), bundle


async def _decide(policy: EmbeddedPolicy, source: IO[bytes], sink: IO[bytes]) -> None:
    tools: dict[int, Tool] = {}
    while True:
        batch = receive(source, Batch)
        if batch.fresh:
            tools.clear()
        tools.update(batch.tools)
        answers = []
        for each in batch.calls:
            call = Call(
                id=each.id, principal=each.principal, tool=tools[each.tool],
                args=strictjson.parse(each.args_json), args_json=each.args_json, digest=each.digest,
                session=each.session, thread="", surface=each.surface, effect_key=each.id,
                received_ns=each.received_ns, modified_from=each.modified_from,
            )  # fmt: skip
            answers.append(said(await policy.call(call, each.facts)))
        send(sink, answers)


if __name__ == "__main__":
    main()
