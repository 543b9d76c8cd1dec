"""``wardgate trust``: what agents may do alone and why, and what people sign or take back.

Looking works on the storage, whether or not the gateway is running. Signing goes through the admin port with
the operator's own key, because a signature is somebody's.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from gateway.cli.office import DEFAULT_URL, Office, Url
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
    from gateway.config import Config
    from gateway.trust.settings import Settings

app = typer.Typer(help="Look at trust, sign promotions and take tiers back.", no_args_is_help=True)

Agent = Annotated[str, typer.Argument(help="The agent.")]
Domain = Annotated[str, typer.Option(help="The domain: 'domain' in the manifest of its tools.")]
Tenant = Annotated[str, typer.Option(help="Whose.")]
Reason = Annotated[str, typer.Option(help="Why; on record.")]
TierOption = Annotated[int, typer.Option(min=0, max=4, help="The tier that is meant.")]

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 60


@app.command()
def show(
    agent: Annotated[str | None, typer.Argument(help="The agent; all when none is named.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    tenant: Tenant = "default",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show where an agent stands, in one sentence and its numbers."""
    from gateway.cli.opened import database

    loaded, settings = _loaded(config)
    with database(loaded, read_only=True) as opened:
        found = _views(loaded, settings, opened, tenant, agent, domain)
    if as_json:
        print_json({"items": found})
        return
    if agent is None:
        rows = [
            [each["agent"], each["domain"], f"T{each['tier']}", f"T{each['held']}", f"{each['bound']:.4f}",
             f"{each['debt']:.1f}", each["cap"], "yes" if each["next"]["eligible"] else ""]
            for each in found
        ]  # fmt: skip
        print_table("", ["agent", "domain", "tier", "held", "bound", "debt", "cap", "may be signed"], rows)
        return
    for each in found:
        say(printable(f"{each['agent']} in {each['domain']}: {each['sentence']}"))
        if domain is not None:
            _tell(each)


@app.command()
def history(
    agent: Agent,
    domain: Domain = "general",
    tenant: Tenant = "default",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show what happened to a tier, and the bound over time."""
    import msgspec

    from gateway.cli.opened import database
    from gateway.cli.times import local
    from gateway.standing.views import curve_of
    from gateway.storage.trust import Altered, TrustStore, Where

    loaded, settings = _loaded(config)
    where = Where(tenant, agent, domain)
    with database(loaded, read_only=True) as opened:
        store = TrustStore(opened)
        try:
            events = [msgspec.structs.asdict(event) for event in store.events(where)]
        except Altered as altered:
            fail(f"The record of this tier was altered: {altered}.", "Find out who wrote to the database.")
        curve = curve_of(store.evidence(where), time.time_ns(), settings)
    if not events and not curve:
        fail(f"Nothing is known of '{printable(agent)}' in '{printable(domain)}'.", "", NOT_FOUND)
    if as_json:
        print_json({"events": events, "curve": curve})
        return
    if curve:
        say(_chart([point["bound"] for point in curve]))
        first, last = (local(curve[at]["at_ns"])[:10] for at in (0, -1))
        say(f"bound of each day, {first} to {last}, from 0 to 1; now {curve[-1]['bound']:.4f}")
    rows = [
        [local(each["at_ns"]), each["kind"], f"T{each['before']} → T{each['after']}", each["cause"],
         each["by"], each["ref"], each["reason"]]
        for each in events
    ]  # fmt: skip
    print_table("", ["time", "what", "tier", "cause", "by", "because of", "reason"], rows)


@app.command()
def promote(
    agent: Agent,
    domain: Domain = "general",
    tier: Annotated[int | None, typer.Option(min=1, max=4, help="The tier that is meant.")] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Sign the tier it holds once more.")] = False,
    vouch: Annotated[
        float | None, typer.Option(min=0.01, max=90, help="Days for which a tier proven elsewhere is signed.")
    ] = None,
    reason: Reason = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Sign the next tier with your own key; T3 and above take two people."""
    body: dict[str, Any] = {"reason": _why(reason, f"promote {agent}")}
    verb = "promote"
    if vouch is not None:
        if tier is None:
            fail("Say which tier: --tier.", f"wardgate trust promote {agent} --tier 2 --vouch 30 --reason …")
        verb, body = "vouch", {**body, "tier": tier, "days": vouch}
    else:
        body |= {"tier": tier, "renew": renew}
    said = Office(url).post(f"/v1/trust/{_part(agent)}/{_part(domain)}/{verb}", body, None)
    if as_json:
        print_json(said)
    elif said["missing"]:
        say(printable(f"Signed by {', '.join(said['signed'])}. Still needed: {said['missing']}."))
    else:
        say(printable(f"{agent} holds T{said['tier']} in {domain}."))


@app.command()
def demote(
    agent: Agent,
    tier: TierOption,
    domain: Domain = "general",
    reason: Reason = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Take a tier back; in force when this returns."""
    body = {"tier": tier, "reason": _why(reason, f"demote {agent} --tier {tier}")}
    said = Office(url).post(f"/v1/trust/{_part(agent)}/{_part(domain)}/demote", body, None)
    if as_json:
        print_json(said)
    else:
        say(printable(f"{agent} holds T{said['tier']} in {domain}."))


@app.command()
def pardon(
    agent: Agent,
    ref: Annotated[str, typer.Argument(help="What the last fall was for: trip:ID or incident:CALL.")],
    domain: Domain = "general",
    reason: Reason = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Say that the last fall was for nothing. Its cool-down ends; the tier is signed again like any other."""
    body = {"ref": ref, "reason": _why(reason, f"pardon {agent} {ref}")}
    said = Office(url).post(f"/v1/trust/{_part(agent)}/{_part(domain)}/pardon", body, None)
    if as_json:
        print_json(said)
    else:
        say(printable(f"{agent} holds T{said['tier']} in {domain}, and what it had earned counts again."))


@app.command()
def report(
    call: Annotated[str, typer.Argument(help="Id of the call that did it.")],
    kind: Annotated[
        Literal["incident", "compensated"], typer.Option(help="It did harm, or it had to be undone.")
    ] = "incident",
    reason: Reason = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Report what a call did. An incident takes the agent's tier in its domain at once."""
    body = {"call": call, "kind": kind, "reason": _why(reason, f"report {call}")}
    said = Office(url).post("/v1/trust/reports", body, None)
    if as_json:
        print_json(said)
    else:
        again = " It had been reported before." if said["known"] else ""
        say(printable(f"{said['agent']} holds T{said['tier']} in {said['domain']}.{again}"))


@app.command()
def simulate(
    agent: Agent,
    domain: Domain = "general",
    tenant: Tenant = "default",
    half_life: Annotated[
        float | None, typer.Option(min=0.1, help="Days after which a good outcome is half.")
    ] = None,
    half_life_bad: Annotated[float | None, typer.Option(min=0.1, help="… and a failure.")] = None,
    enter: Annotated[
        list[str] | None, typer.Option(help="Another bound for a tier, such as 2=0.95; may be repeated.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days the evidence must be spread over.")] = None,
    sessions: Annotated[int | None, typer.Option(min=1, help="Sessions it must be spread over.")] = None,
    template_share: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Share that may come from one template.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """What tier recorded outcomes would have earned under other parameters, if people had signed at once."""
    import msgspec

    from gateway.cli.opened import database
    from gateway.cli.times import local
    from gateway.storage.trust import TrustStore, Where
    from gateway.trust import reach
    from gateway.trust.simulate import simulate as simulated

    loaded, settings = _loaded(config)
    over: dict[str, Any] = {
        "half_life_good_days": half_life, "half_life_bad_days": half_life_bad, "days": days,
        "sessions": sessions, "template_share": template_share, "tiers": _bounds(enter or [], settings),
    }  # fmt: skip
    settings = msgspec.structs.replace(
        settings, **{name: each for name, each in over.items() if each is not None}
    )
    faults = list(reach.faults(settings))
    with database(loaded, read_only=True) as opened:
        rows = TrustStore(opened).evidence(Where(tenant, agent, domain))
    if not rows:
        fail(f"Nothing is known of '{printable(agent)}' in '{printable(domain)}'.", "", NOT_FOUND)
    found = simulated(rows, domain, settings, time.time_ns())
    if as_json:
        print_json({**msgspec.to_builtins(found), "faults": faults})
        return
    for fault in faults:
        note(f"With these parameters: {fault}.")
    say(_chart([point.bound for point in found.points]))
    for point in found.points:
        if point.event:
            say(f"{local(point.at_ns)}  {point.event} (bound {point.bound:.4f})")
    say(
        f"{found.outcomes} good outcomes of {len(rows)}: at the highest T{found.highest}, "
        f"today T{found.tier} with a bound of {found.bound:.4f}."
    )


# ------------------------------------------------------------------------------------------------ in common


def _loaded(config: Path) -> tuple[Config, Settings]:
    from gateway.cli.opened import configuration

    loaded = configuration(config)
    if not loaded.trust.enabled:
        note("No trust is kept: 'trust.enabled' is false.")
    return loaded, loaded.trust.settings()


def _views(
    loaded: Config, settings: Settings, opened: Any, tenant: str, agent: str | None, domain: str | None
) -> list[dict[str, Any]]:
    from gateway.identity.principals import principal_of
    from gateway.standing.views import cap_of, described
    from gateway.storage.trust import TrustStore, Where
    from gateway.trust.account import Account

    store, now = TrustStore(opened), time.time_ns()
    accounts = dict(store.accounts(tenant, agent))
    if agent is not None:
        known = loaded.agents.get(agent)
        if not accounts and (known is None or known.tenant != tenant):
            fail(f"There is no agent '{printable(agent)}'.", "See 'wardgate trust show'.", NOT_FOUND)
        if domain is not None or not accounts:
            accounts.setdefault(
                Where(tenant, agent, domain or "general"), Account(tier=settings.initial, at_ns=now)
            )
    found = []
    for where, account in sorted(accounts.items()):
        if domain not in (None, where.domain):
            continue
        configured = loaded.agents.get(where.agent)
        principal = principal_of(where.agent, configured, loaded.mode, "") if configured is not None else None
        rows = store.evidence(where, good=True)
        cap = cap_of(account, principal, now, settings)
        found.append(described(where, account, rows, store.events(where), cap, now, settings))
    return found


def _tell(each: dict[str, Any]) -> None:
    from gateway.cli.times import local

    buys, after = each["buys"], each["next"]
    say(f"tier        T{each['tier']}, of T{each['held']} held; score {each['score']}")
    sums = ", ".join(f"{name} {number:.1f}" for name, number in each["evidence"].items() if number)
    say(f"evidence    {sums or 'none'}; bound {each['bound']:.4f}; debt {each['debt']:.1f}")
    horizon = (
        f", {buys['horizon_calls']} calls or {buys['horizon_s'] // 60} minutes until a person looks"
        if buys["horizon_calls"]
        else ""
    )
    say(f"alone       {', '.join(buys['unattended'])}{horizon}; {buys['budget_share']:.0%} of its budget")
    say(
        f"for T{after['tier']}      {after['outcomes']} outcomes of {after['days']} days and "
        f"{after['sessions']} sessions; bound {after['bound']:.4f} of {after['wanted']:g}"
    )
    for missing in after["missing"]:
        say(printable(f"  missing   {missing}"))
    for event in each["events"]:
        words = f"{event['kind']} T{event['before']} → T{event['after']} {event['cause']} {event['by']}"
        say(printable(f"  {local(event['at_ns'])}  {words}"))


def _chart(bounds: list[float]) -> str:
    """A line of blocks, at most ``_WIDTH`` wide; each the lowest of its days."""
    step = -(-len(bounds) // _WIDTH)
    lows = [min(bounds[at : at + step]) for at in range(0, len(bounds), step)]
    return "".join(_BARS[min(len(_BARS) - 1, int(low * len(_BARS)))] for low in lows)


def _bounds(given: list[str], settings: Settings) -> Any:
    import msgspec

    if not given:
        return None
    tiers = list(settings.tiers)
    for each in given:
        number, _, bound = each.partition("=")
        try:
            at, wanted = int(number), float(bound)
        except ValueError:
            fail(f"'{printable(each)}' is no bound for a tier.", "--enter 2=0.95")
        if at not in (2, 3, 4) or not 0 < wanted < 1:
            fail(f"'{printable(each)}' is no bound for a tier.", "--enter 2=0.95")
        hold = min(tiers[at].hold, wanted)
        tiers[at] = msgspec.structs.replace(tiers[at], enter=wanted, hold=hold)
    return tuple(tiers)


def _why(reason: str, command: str) -> str:
    if not reason.strip():
        fail("Say why: --reason.", f"wardgate trust {command} --reason 'reviewed in ticket 7'")
    return reason


def _part(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
