"""``wardgate breaker``: what is stopped and why, whether that was right, and thresholds from records.

Read and written in the storage, so it works whether or not the gateway is running; a running one carries out
what is asked within a second.
"""

from __future__ import annotations

import getpass
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    print_table,
    printable,
    say,
)

if TYPE_CHECKING:
    from gateway.breakers.event import Event
    from gateway.storage.breakers import Told

app = typer.Typer(help="Look at circuit breakers, trip and reset them.", no_args_is_help=True)

ScopeName = Literal["thread", "session", "agent", "tool", "upstream", "tree", "tenant"]
Scope = Annotated[ScopeName, typer.Argument(help="What it is about.")]
Named = Annotated[
    str, typer.Argument(help="Agent, tool (upstream/name), upstream or root; none of a tenant.")
]
Part = Annotated[str, typer.Option(help="Session, thread or domain, of an agent's.")]
Tenant = Annotated[str, typer.Option(help="Whose.")]
Reason = Annotated[str, typer.Option(help="Why; on record.")]


@app.command("list")
def list_breakers(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the breakers that are not closed."""
    from gateway.cli.opened import configuration, database
    from gateway.cli.times import local
    from gateway.guard import shown
    from gateway.storage.breakers import BreakerStore

    with database(configuration(config), read_only=True) as opened:
        found = [
            dict(shown(key, machine))
            for key, machine in BreakerStore(opened).machines()
            if machine.stage != "closed"
        ]
    if as_json:
        print_json({"items": found})
        return
    rows = [
        [each["scope"], each["name"], each["part"], each["stage"], each["detector"], local(each["since_ns"]),
         "a person" if each["person"] else local(each["until_ns"]) if each["until_ns"] else "", each["trip"]]
        for each in found
    ]  # fmt: skip
    print_table("", ["scope", "name", "part", "state", "detector", "since", "until", "trip"], rows)


@app.command()
def trips(
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List moves of breakers, newest first."""
    from gateway.breaker_desk import described
    from gateway.cli.opened import configuration, database
    from gateway.cli.times import local
    from gateway.storage.breakers import BreakerStore

    with database(configuration(config), read_only=True) as opened:
        found = [described(each) for each in BreakerStore(opened).trips(agent=agent, limit=limit)]
    if as_json:
        print_json({"items": found})
        return
    rows = [
        [local(each["at_ns"]), each["id"], each["agent"], each["detector"],
         f"({each['after']})" if each["observed"] else each["after"], each["label"] or "", each["sentence"]]
        for each in found
    ]  # fmt: skip
    print_table("", ["time", "trip", "agent", "detector", "state", "label", "what was wrong"], rows)


@app.command()
def show(
    trip: Annotated[str, typer.Argument(help="Id of the trip; see 'wardgate breaker trips'.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show one trip: detector, statistic against threshold, and the calls that contributed."""
    from gateway.breaker_desk import described
    from gateway.cli.times import local

    found = described(_trip(trip, config))
    if as_json:
        print_json(found)
        return
    say(printable(found["sentence"]))
    until = "until a person resets it" if found["person"] else (
        f"until {local(found['until_ns'])}" if found["until_ns"] else ""
    )  # fmt: skip
    whom = " ".join(printable(found[name]) for name in ("scope", "name", "part") if found[name])
    say(f"{whom}: {found['before']} → {found['after']} {until}".rstrip())
    say(f"{found['detector']}: {found['statistic']:.2f} against {found['threshold']:.2f}")
    say(f"suspect since {local(found['since_ns'])}; label: {found['label'] or 'none yet'}")
    if found["calls"]:
        say("calls, oldest first (wardgate decisions show …):")
    for call in found["calls"]:
        say(f"  {printable(call)}")


@app.command("trip")
def trip_breaker(
    scope: Scope,
    name: Named = "",
    part: Part = "",
    tenant: Tenant = "default",
    reason: Reason = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Open a breaker until it is reset."""
    _act("trip", scope, name, part, tenant, reason, config, as_json)


@app.command()
def reset(
    scope: Scope,
    name: Named = "",
    part: Part = "",
    tenant: Tenant = "default",
    reason: Reason = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Close a breaker."""
    _act("reset", scope, name, part, tenant, reason, config, as_json)


@app.command()
def label(
    trip: Annotated[str, typer.Argument(help="Id of the trip.")],
    verdict: Annotated[Literal["true", "false"], typer.Argument(help="Whether something was wrong.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say whether a trip was right. A false one is reset, and what is usual is learned anew."""
    from gateway.cli.opened import configuration, database
    from gateway.storage.breakers import BreakerStore

    found = _trip(trip, config)
    with database(configuration(config)) as opened:
        BreakerStore(opened).act("label", found.trip.key, verdict, getpass.getuser(), trip=trip)
    if as_json:
        print_json({"trip": trip, "label": verdict})
    else:
        say(f"{trip} is labelled {verdict}.")


@app.command()
def calibrate(
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    first: Annotated[float, typer.Option(min=0.001, help="False first responses an agent and day.")] = 1.0,
    stop: Annotated[float, typer.Option(min=0.001, help="False stops an agent and day.")] = 0.1,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Fit the tails of the statistics to recorded traffic, without the calls of trips labelled true.

    Prints a section for wardgate.yaml: for each detector the heaviest tail of any agent, at the upper end of
    its 95 % interval.
    """
    from gateway.breakers.calibrate import Fit, fit, peaks
    from gateway.breakers.settings import STATISTICAL, Settings
    from gateway.cli.opened import configuration, database
    from gateway.journal.events import recorded_events
    from gateway.storage.breakers import BreakerStore

    loaded = configuration(config)
    settings = loaded.breakers.settings()
    by_agent: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    with database(loaded, read_only=True) as opened:
        wrong = {
            call
            for told in BreakerStore(opened).trips(agent=agent, limit=10_000)
            if told.label == "true"
            for call in told.trip.calls
        }
        for event in recorded_events(opened, agent):
            if event.call_id not in wrong:
                by_agent[event.tenant, event.agent, event.domain].append(event)
    if not by_agent:
        fail("There are no recorded calls to calibrate from.", "Run for a while first.", NOT_FOUND)
    wanted = Settings(false_first=first, false_open=stop)
    heaviest: dict[str, tuple[float, Fit]] = {}
    rows: list[list[str]] = []
    shown: list[dict[str, Any]] = []
    for (tenant, who, domain), traffic in sorted(by_agent.items()):
        span_s = max((traffic[-1].at_ns - traffic[0].at_ns) / 1e9, 1.0)
        per_day = len(traffic) / span_s * 86_400
        calls, found = peaks(traffic, settings)
        for detector in STATISTICAL:
            made = fit(detector, calls, found[detector])
            if made is None:
                continue
            limits = made.threshold(wanted, per_day)
            low, high = made.false_per_day(limits.first, per_day)
            if detector not in heaviest or limits.stop > heaviest[detector][0]:
                heaviest[detector] = (limits.stop, made)
            rows.append(
                [who, domain, detector, str(calls), f"{per_day:.0f}", f"{limits.first:.1f}",
                 f"{limits.stop:.1f}", f"{low:.3g} to {high:.3g}"]
            )  # fmt: skip
            shown.append(
                {"tenant": tenant, "agent": who, "domain": domain, "detector": detector, "calls": calls,
                 "peaks": made.peaks, "calls_per_day": per_day, "first": limits.first, "stop": limits.stop,
                 "false_per_day": [low, high], "rate": made.tail.rate, "scale": made.tail.scale}
            )  # fmt: skip
    tails = {
        name: {"rate": round(each.tail.rate, 6), "scale": round(each.tail.scale, 3)}
        for name, (_, each) in heaviest.items()
    }
    if as_json:
        print_json({"fits": shown, "tails": tails})
        return
    if not rows:
        fail(
            "There is too little recorded traffic to say anything: at least some thousand calls of an agent."
        )
    headings = ["agent", "domain", "detector", "calls", "a day", "first", "stop", "false first a day"]
    print_table("", headings, rows)
    say("breakers:\n  tails:")
    for name, tail in tails.items():
        say(f"    {name}: {{rate: {tail['rate']}, scale: {tail['scale']}}}")
    note("Detectors that are not named had too few excursions; they keep their defaults.")


def _trip(trip: str, config: Any) -> Told:
    from gateway.cli.opened import configuration, database
    from gateway.storage.breakers import BreakerStore

    with database(configuration(config), read_only=True) as opened:
        found = BreakerStore(opened).trip(trip)
    if found is None:
        fail(f"There is no trip '{printable(trip)}'.", "See 'wardgate breaker trips'.", NOT_FOUND)
    return found


def _act(
    act: Literal["trip", "reset"], scope: ScopeName, name: str, part: str, tenant: str, reason: str,
    config: Any, as_json: bool,
) -> None:  # fmt: skip
    from gateway.breaker_desk import whole
    from gateway.cli.opened import configuration, database
    from gateway.storage.breakers import BreakerStore

    if not reason.strip():
        fail("Say why: --reason.", f"wardgate breaker {act} {scope} {name} --reason 'incident 7'")
    if not name and scope != "tenant":
        fail(f"Say which {scope}.", "See 'wardgate breaker list'.")
    key = whole(scope, tenant, name, part)
    with database(configuration(config)) as opened:
        BreakerStore(opened).act(act, key, reason, getpass.getuser())
    words = "is opened" if act == "trip" else "is reset"
    if as_json:
        print_json({"act": act, "scope": scope, "tenant": tenant, "name": name, "part": key.part})
    else:
        say(f"The breaker of {scope} {printable(name)} {words}; a running gateway does so within a second.")
