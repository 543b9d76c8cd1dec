"""A mandate within another: what a child may be given, and what is left where two meet.

Every dimension is compared by itself, and whatever cannot be shown to be within is a fault. What is left out
of a child is inherited, so leaving something out never widens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final, Literal

import msgspec

from gateway.errors import Fault
from gateway.model import Risk
from gateway.sessions.mandate.bounds import Bounds, implies, joined, words
from gateway.sessions.mandate.globs import contained, matches, overlaps
from gateway.sessions.mandate.value import RISKS, Horizon, Mandate, identified

_Arguments = dict[str, dict[str, Bounds]]

_OPENS: Final = "([{<\"'«„“‘:,;"
_ENDS: Final = re.compile(r"""\s|$|[)\]}>"'»“”’,;!?:]|\.(\s|$)""")  # an end of sentence, not of a domain
_MOST_FAULTS: Final = 16  # of one dimension: deciding the rest would only cost time
_NOWHERE: Final = "more than the mandate above it"


class Ceiling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a credential that may open sessions may put into their mandates."""

    agents: tuple[str, ...] = ()  # patterns of agents' names; none by default
    tools: tuple[str, ...] = ("**",)
    reads: Literal["listed", "any"] = "any"
    risks: tuple[Risk, ...] = RISKS
    budgets: dict[str, int] = {}
    max_ttl_s: int | None = None
    broad: bool = False  # whether mandates may name all tools at once: '**', '*/*'

    def may_mint_for(self, agent: str) -> bool:
        return any(matches(pattern, agent) for pattern in self.agents)

    def completed(self, mandate: Mandate, given: Collection[str], now_ns: int | None) -> Mandate:
        """The mandate with the risks, budgets and expiry it leaves out."""
        expires_ns = mandate.expires_ns
        if expires_ns is None and self.max_ttl_s is not None and now_ns is not None:
            expires_ns = now_ns + self.max_ttl_s * 1_000_000_000
        return msgspec.structs.replace(
            mandate,
            risks=mandate.risks if "risks" in given else _both(mandate.risks, self.risks),
            budgets={**self.budgets, **mandate.budgets},
            expires_ns=expires_ns,
        )


def above(mandate: Mandate, ceiling: Ceiling, now_ns: int | None) -> list[Fault]:
    """Where a mandate goes beyond what its giver may give."""
    found = list(_tools(mandate, ceiling.tools, ceiling.reads, "more than this credential may give"))
    found += _risks(mandate, ceiling.risks)
    found += _budgets(mandate, ceiling.budgets)
    if (
        ceiling.max_ttl_s is not None
        and now_ns is not None
        and (mandate.expires_ns is None or mandate.expires_ns > now_ns + ceiling.max_ttl_s * 1_000_000_000)
    ):
        found.append(
            Fault(
                "/expires",
                "is later than this credential may give",
                f"'ttl_s' of at most {ceiling.max_ttl_s}",
            )
        )
    return found


def within(child: Mandate, parent: Mandate) -> list[Fault]:
    """Every dimension in which the child is not within the parent; empty when it is in all.

    A missing budget, horizon or expiry counts as unlimited here: ``inherited`` fills them in first.
    """
    found = list(_tools(child, parent.tools, parent.reads, _NOWHERE))
    found += _risks(child, parent.risks)
    found += _arguments(child, parent)
    found += _budgets(child, parent.budgets)
    for name in ("actions", "minutes"):
        most, asked = getattr(parent.horizon, name), getattr(child.horizon, name)
        if most is not None and (asked is None or asked > most):
            found.append(Fault(f"/horizon/{name}", f"is {_NOWHERE}", f"at most {most}"))
    if parent.expires_ns is not None and (child.expires_ns is None or child.expires_ns > parent.expires_ns):
        found.append(Fault("/expires", "is later than that of the mandate above it", "an earlier time"))
    if not _quotes(parent.request, child.request):
        # The values of a request are trusted. An agent that writes one for its child would vouch for itself.
        found.append(Fault("/request", "is not part of the request above it", "quote it, or leave it out"))
    for number, value in enumerate(child.trusted_values):
        if value not in parent.trusted_values and not _quotes(parent.request, value):
            found.append(
                Fault(f"/trusted_values/{number}", "is trusted by no mandate above it", "leave it out")
            )
    for number, milestone in enumerate(child.milestones):
        if milestone not in parent.milestones:
            # A milestone sets the horizon anew, so a child that makes its own would have none.
            found.append(
                Fault(f"/milestones/{number}", "is no milestone of the mandate above it", "leave it out")
            )
    if parent.milestones and not child.milestones:
        found.append(Fault("/milestones", "leaves out those of the mandate above it", "inherit them"))
    return found


def inherited(child: Mandate, parent: Mandate, given: Collection[str]) -> Mandate:
    """The child with what it does not say (``given`` are the keys it does say) taken from its parent.

    Bounds of arguments, budgets and the horizon are inherited one by one.
    """
    changes = {
        name: getattr(parent, name)
        for name in ("tools", "reads", "risks", "trusted_values", "milestones", "objective", "request")
        if name not in given
    }
    reads = changes.get("reads", child.reads)
    return msgspec.structs.replace(
        child,
        **changes,
        arguments=_joined(child.arguments, _about(parent, changes.get("tools", child.tools), reads)),
        budgets={**parent.budgets, **child.budgets},
        horizon=Horizon(
            actions=parent.horizon.actions if child.horizon.actions is None else child.horizon.actions,
            minutes=parent.horizon.minutes if child.horizon.minutes is None else child.horizon.minutes,
        ),
        expires_ns=parent.expires_ns if child.expires_ns is None else child.expires_ns,
    )


def narrowed(parent: Mandate, requested: Mandate) -> Mandate:
    """What both allow: ``requested`` cut down to the parent. Always within the parent, and may cover nothing.

    Of two patterns that only overlap nothing is left, since no pattern says what they share.
    """
    risks = _both(requested.risks, parent.risks)
    reads: Literal["listed", "any"] = (
        "any" if requested.reads == parent.reads == "any" and "read" in risks else "listed"
    )
    tools = tuple(
        dict.fromkeys(
            pattern
            for mine, theirs in ((requested, parent), (parent, requested))
            for pattern in mine.tools
            if contained(pattern, theirs.tools)
        )
    )
    budgets = dict(parent.budgets)
    for metric, limit in requested.budgets.items():
        budgets[metric] = min(limit, budgets.get(metric, limit))
    expiries = [at for at in (parent.expires_ns, requested.expires_ns) if at is not None]
    return identified(
        Mandate(
            objective=requested.objective or parent.objective,
            request=requested.request if _quotes(parent.request, requested.request) else parent.request,
            tools=tools,
            reads=reads,
            risks=risks,
            arguments=_joined(_about(requested, tools, reads), _about(parent, tools, reads)),
            budgets=budgets,
            horizon=Horizon(
                actions=_least(parent.horizon.actions, requested.horizon.actions),
                minutes=_least(parent.horizon.minutes, requested.horizon.minutes),
            ),
            trusted_values=tuple(
                value
                for value in requested.trusted_values or parent.trusted_values
                if value in parent.trusted_values or _quotes(parent.request, value)
            ),
            milestones=tuple(one for one in requested.milestones if one in parent.milestones)
            or parent.milestones,
            expires_ns=min(expiries, default=None),
        )
    )


def _quotes(text: str, part: str) -> bool:
    """Whether ``part`` stands in the text as whole words.

    Half of a value is another value: "ann@example.co" in "ann@example.com", "10" in "1000".
    """
    at = text.find(part)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(part) : at + len(part) + 2]
        if (not before or before.isspace() or before in _OPENS) and _ENDS.match(after):
            return True
        at = text.find(part, at + 1)
    return False


def _tools(child: Mandate, tools: Collection[str], reads: str, beyond: str) -> Iterator[Fault]:
    if child.reads == "any" and reads != "any" and not contained("**", tools):
        yield Fault("/reads", f"is {beyond}", "write 'listed' and name what is read")
    if reads == "any" and not set(child.risks) - {"read"}:
        return  # whatever it names, it only reads
    found = 0
    for number, pattern in enumerate(child.tools):
        if not contained(pattern, tools):
            yield Fault(f"/tools/{number}", f"is {beyond}", "leave it out, or name fewer tools")
            found += 1
            if found == _MOST_FAULTS:
                return


def _risks(child: Mandate, risks: Collection[str]) -> list[Fault]:
    more = [risk for risk in child.risks if risk not in risks]
    remedy = f"only {', '.join(risks)}" if risks else "nothing: no risk may be given"
    return [Fault("/risks", f"names '{risk}', which is {_NOWHERE}", remedy) for risk in more]


def _budgets(child: Mandate, budgets: dict[str, int]) -> list[Fault]:
    return [
        Fault(f"/budgets/{metric}", f"is {_NOWHERE}", f"at most {most}")
        for metric, most in budgets.items()
        if child.budgets.get(metric, most + 1) > most
    ]


def _arguments(child: Mandate, parent: Mandate) -> Iterator[Fault]:
    """The parent's bounds that the child does not keep for every tool that both are about.

    For each of the child's tools that a bound of the parent is about, one of the child's own patterns must
    cover that tool, or all that the parent's pattern covers, with bounds that imply it.
    """
    covered = ("**",) if child.reads == "any" else child.tools
    for pattern, pointers in parent.arguments.items():
        tools = [tool for tool in covered if overlaps(tool, pattern)]
        if not tools:
            continue
        keepers = [mine for mine in child.arguments if mine == pattern or contained(pattern, (mine,))]
        for pointer, bounds in pointers.items():
            for word in words(bounds):
                if _kept(child, keepers, pointer, bounds, word):
                    continue
                if not all(
                    _kept(child, [m for m in child.arguments if contained(tool, (m,))], pointer, bounds, word)
                    for tool in tools
                ):
                    yield Fault(
                        "/arguments",
                        f"does not keep '{word}' of {pointer} for {pattern}",
                        "leave it out, or give a narrower bound",
                    )


def _kept(child: Mandate, patterns: list[str], pointer: str, bounds: Bounds, word: str) -> bool:
    return any(
        implies(child.arguments[pattern][pointer], word, bounds)
        for pattern in patterns
        if pointer in child.arguments[pattern]
    )


def _about(mandate: Mandate, tools: Collection[str], reads: str) -> _Arguments:
    """The bounds that are about some of these tools."""
    return {
        pattern: pointers
        for pattern, pointers in mandate.arguments.items()
        if reads == "any" or any(overlaps(pattern, tool) for tool in tools)
    }


def _joined(one: _Arguments, other: _Arguments) -> _Arguments:
    found = {pattern: dict(pointers) for pattern, pointers in one.items()}
    for pattern, pointers in other.items():
        mine = found.setdefault(pattern, {})
        for pointer, bounds in pointers.items():
            mine[pointer] = joined(mine[pointer], bounds) if pointer in mine else bounds
    return found


def _both(one: Collection[Risk], other: Collection[Risk]) -> tuple[Risk, ...]:
    return tuple(risk for risk in RISKS if risk in one and risk in other)


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)
