"""Asking OPA about a scope group: one question for all that decide, and no odd answer that is not a fault.

Modules that only watch are asked in a question of their own, at the same time, so that neither their faults
nor their time touch the others. When a question fails because one module does, each is asked alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.policy.combine import Contribution, Rule, Said, contribution, fault
from gateway.policy.embedded import Contributions, Encode, EvaluationFault, Group, Part, encoded
from gateway.policy.input import Sections
from gateway.policy.numbers import whole
from gateway.policy.opa_link import OpaLink
from gateway.policy.opa_modules import ASK
from gateway.policy.opa_target import EvaluationError, OpaFault

logger = logging.getLogger("wardgate.policy")

_KEPT_UNIONS: Final = 1000
_LOGGED: Final = 1000


class _Answered(msgspec.Struct, frozen=True):
    revision: str
    said: dict[str, msgspec.Raw]


class _Typed(msgspec.Struct, frozen=True):
    revision: str
    said: dict[str, Said]


class _Reply(msgspec.Struct, frozen=True):
    result: _Answered | None = None


class _TypedReply(msgspec.Struct, frozen=True):
    result: _Typed | None = None


_REPLY: Final = msgspec.json.Decoder(_Reply, strict=True)
_TYPED: Final = msgspec.json.Decoder(_TypedReply, strict=True)
_SAID: Final = msgspec.json.Decoder(Said, strict=True)


class OpaEngine:
    """Evaluates groups of one bundle by asking OPA. Never raises: a fault is a contribution that denies."""

    def __init__(self, link: OpaLink, *, deadline_s: float, memoise: bool = True) -> None:
        self._link = link
        self._names = link.pushed.names
        self._deadline_s = deadline_s
        self._memoise = memoise
        self._logged: set[tuple[str, str]] = set()
        self._unions: dict[int, tuple[Group, Sections, Sections]] = {}

    async def ask(
        self, group: Group, encode: Encode, traceparent: str = ""
    ) -> tuple[Sequence[Contribution], int]:
        """As ``EmbeddedEngine.ask``: the same contributions in the same order."""
        said: list[Contributions] = []
        missing: list[tuple[int, Part, bytes]] = []
        memoised = 0
        for part in group.parts:
            payload = encoded(part, encode, self._log)
            if payload is None:
                said.append(_faults(part, "policy_error"))
                continue
            known = part.memo.get(payload) if part.memo is not None and self._memoise else None
            if known is not None:
                if len(known) == len(group.modules):
                    return known, len(known)
                memoised += len(known)
            else:
                missing.append((len(said), part, payload))
            said.append(known or ())
        questions = [self._deciding(group, missing, encode, traceparent)] if missing else []
        payloads = [encoded(part, encode, self._log) for part in group.apart]
        watched = self._watched(group, payloads)
        if watched is None:
            questions.append(self._watching(group, payloads, encode, traceparent))
        answers = await asyncio.gather(*questions) if len(questions) > 1 else [await one for one in questions]
        if missing:
            for (at, part, payload), answer in zip(missing, answers[0], strict=True):
                said[at] = answer
                self._keep(part, payload, answer)
        if watched is not None:
            memoised += len(watched)
            said += watched
        else:
            said += answers[-1]
            for part, payload, answer in zip(group.apart, payloads, answers[-1], strict=True):
                self._keep(part, payload, answer)
        return [item for answer in said for item in answer], memoised

    def _watched(self, group: Group, payloads: Sequence[bytes | None]) -> list[Contributions] | None:
        """What watching modules are remembered to say; ``None`` unless all are."""
        found: list[Contributions] = []
        for part, payload in zip(group.apart, payloads, strict=True):
            if part.memo is None or payload is None or not self._memoise:
                return None
            known = part.memo.get(payload)
            if known is None:
                return None
            found.append(known)
        return found

    def _keep(self, part: Part, payload: bytes | None, answer: Contributions) -> None:
        if part.memo is None or payload is None or not self._memoise or any(item.fault for item in answer):
            return
        part.memo.put(payload, answer)

    async def _deciding(
        self, group: Group, missing: Sequence[tuple[int, Part, bytes]], encode: Encode, traceparent: str
    ) -> list[Contributions]:
        payload = missing[0][2] if len(missing) == 1 else encode(self._sections(group)[0])
        return await self._answers([part for _, part, _ in missing], payload, traceparent)

    async def _watching(
        self, group: Group, payloads: Sequence[bytes | None], encode: Encode, traceparent: str
    ) -> list[Contributions]:
        if None not in payloads:
            return await self._answers(group.apart, encode(self._sections(group)[1]), traceparent)
        # One of them reads what cannot be encoded; the others must not fall with it.
        return [
            _faults(part, "policy_error")
            if payload is None
            else (await self._answers((part,), payload, traceparent))[0]
            for part, payload in zip(group.apart, payloads, strict=True)
        ]

    def _sections(self, group: Group) -> tuple[Sections, Sections]:
        """What all deciding modules read, and all watching ones: one question has one input."""
        kept = self._unions.get(id(group))
        if kept is None or kept[0] is not group:
            if len(self._unions) >= _KEPT_UNIONS:
                self._unions.clear()
            decide, watch = (
                Sections(
                    path
                    for module in group.modules
                    if (module.mode == "enforce") is deciding
                    for path in module.reads
                )
                for deciding in (True, False)
            )
            kept = self._unions[id(group)] = (group, decide, watch)
        return kept[1], kept[2]

    async def _answers(self, parts: Sequence[Part], payload: bytes, traceparent: str) -> list[Contributions]:
        rules = [rule for part in parts for _, rule in part.modules]
        try:
            async with asyncio.timeout(self._deadline_s):
                said = await self._said(rules, payload, traceparent)
        except TimeoutError:
            said = self._all(rules, "policy_timeout", f"no answer in {self._deadline_s} s")
        except OpaFault as error:
            said = self._all(rules, error.code, str(error))
        by_rule = {item.rule.id: item for item in said}
        return [tuple(by_rule[rule.id] for _, rule in part.modules) for part in parts]

    async def _said(self, rules: Sequence[Rule], payload: bytes, traceparent: str) -> list[Contribution]:
        try:
            return self._read(rules, await self._post(rules, payload, traceparent))
        except EvaluationFault as error:
            if error.code == "policy_mismatch":
                self._link.lost()
            return self._all(rules, error.code, str(error))
        except EvaluationError as error:
            if len(rules) == 1:
                return [self._failed(rules[0], error)]
        # One of several failed: ask each alone, so that the others keep their say and the one is named.
        alone = await asyncio.gather(*(self._said((rule,), payload, traceparent) for rule in rules))
        return [item for (item,) in alone]

    async def _post(self, rules: Sequence[Rule], payload: bytes, traceparent: str) -> bytes:
        names = [self._names[rule.id] for rule in rules]
        return await self._link.ask(_question(names, whole(payload)), traceparent)

    def _read(self, rules: Sequence[Rule], body: bytes) -> list[Contribution]:
        try:
            typed = _TYPED.decode(body).result
        except (msgspec.DecodeError, RecursionError):  # of one module perhaps; then the others are heard
            return self._read_apart(rules, body)
        said = self._of_this_revision(typed).said
        return [
            contribution(rule, said[name])
            if (name := self._names[rule.id]) in said
            else self._undefined(rule)
            for rule in rules
        ]

    def _read_apart(self, rules: Sequence[Rule], body: bytes) -> list[Contribution]:
        try:
            answered = _REPLY.decode(body).result
        except (msgspec.DecodeError, RecursionError) as error:
            raise EvaluationFault("policy_bad_shape", str(error)) from error
        said = self._of_this_revision(answered).said
        found = []
        for rule in rules:
            raw = said.get(self._names[rule.id])
            try:
                found.append(self._undefined(rule) if raw is None else contribution(rule, _SAID.decode(raw)))
            except (msgspec.DecodeError, RecursionError) as error:
                found.append(self._all((rule,), "policy_bad_shape", str(error))[0])
        return found

    def _of_this_revision(self, answered: Any) -> Any:
        # An OPA that was started again, or was given something else, must not decide as if it were ours.
        if answered is None:
            raise EvaluationFault("policy_mismatch", "OPA does not hold the policy")
        if answered.revision != self._link.pushed.revision:
            raise EvaluationFault("policy_mismatch", f"OPA holds revision {answered.revision!r}")
        return answered

    def _undefined(self, rule: Rule) -> Contribution:
        self._link.lost()  # a set is never undefined: the module itself is gone
        return self._all((rule,), "policy_undefined", "is undefined")[0]

    def _failed(self, rule: Rule, error: EvaluationError) -> Contribution:
        file = self._link.pushed.files.get(error.file, error.file)
        return self._all((rule,), "policy_error", f"{file}:{error.line}: {error}")[0]

    def _all(self, rules: Sequence[Rule], code: str, detail: str) -> list[Contribution]:
        for rule in rules:
            self._log(rule.id, detail)
        return [fault(rule, code) for rule in rules]

    def _log(self, rule: str, detail: str) -> None:
        """Once per rule and fault, as with the embedded engine."""
        if len(self._logged) < _LOGGED and (rule, detail) not in self._logged:
            self._logged.add((rule, detail))
            logger.warning("policy module %s gave no usable answer: %s", rule, detail)


def _faults(part: Part, code: str) -> Contributions:
    return tuple(fault(rule, code) for _, rule in part.modules)


def _question(names: Sequence[str], payload: bytes) -> bytes:
    """The body for OPA: which modules are asked, and the input they read, as it is encoded already."""
    asked = '","'.join(names).encode()
    rest = b"," + payload[1:] if len(payload) > 2 else b"}"
    return b'{"input":{"%b":["%b"]%b}' % (ASK.encode(), asked, rest)
