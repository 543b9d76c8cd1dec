"""``wardgate envelopes``: break-glass. Two people open what was declared beforehand, for an hour at most.

Like ``wardgate approvals`` it asks the running gateway, with the key of the person who types it.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.office import DEFAULT_URL, Office, Url
from gateway.cli.output import AsJson, print_json, print_table, printable, say

app = typer.Typer(help="Break-glass: open what was declared beforehand, by two people.", no_args_is_help=True)

Opening = Annotated[str, typer.Argument(help="Id of the opening.")]


@app.command("list")
def list_envelopes(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the envelopes that are declared, and which of them is open."""
    found = Office(url).get("/v1/envelopes")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["name"], each["title"], ", ".join(each["agents"]), ", ".join(each["tools"]),
            ", ".join(each["chains"]), f"{each['max_s'] // 60} min", _now(each["opening"]),
        )
        for each in found["items"]
    ]  # fmt: skip
    headings = ("name", "what for", "agents", "tools", "chains", "at most", "now")
    print_table("", headings, [tuple(map(printable, row)) for row in rows])


@app.command()
def history(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List all openings, newest first."""
    found = Office(url).get("/v1/openings")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["id"], each["name"], each["state"], each["asked_by"], each["seconded_by"] or "-",
            each["asked"][:19], f"{each['uses']}/{each['max_uses']}", each["reason"],
        )
        for each in found["items"]
    ]  # fmt: skip
    headings = ("id", "envelope", "state", "asked by", "seconded by", "asked", "calls", "reason")
    print_table("", headings, [tuple(map(printable, row)) for row in rows])


@app.command()
def ask(
    name: Annotated[str, typer.Argument(help="Name of the envelope.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; stays on record.")],
    minutes: Annotated[int, typer.Option(min=1, max=60, help="How long it is to be open.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Ask for an envelope to be opened; nothing is open until another person seconds it."""
    found = Office(url).post(f"/v1/envelopes/{name}/ask", {"reason": reason, "minutes": minutes}, None)
    _say(found, as_json, f"Asked for. Another opener: wardgate envelopes second {found['id']}")


@app.command()
def second(opening: Opening, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Agree to what another person has asked for, which opens it."""
    found = Office(url).post(f"/v1/openings/{opening}/second", {}, None)
    _say(found, as_json, f"{found['name']} is open until {(found['expires'] or '')[:19]}.")


@app.command()
def close(opening: Opening, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Close an envelope, or take the request back."""
    found = Office(url).post(f"/v1/openings/{opening}/close", {}, None)
    _say(found, as_json, f"{found['name']} is closed; it has let {found['uses']} call(s) through.")


def _now(opening: dict[str, Any] | None) -> str:
    if opening is None:
        return "closed"
    if opening["state"] == "asked":
        return f"asked for by {opening['asked_by']} ({opening['id']})"
    return f"open until {opening['expires'][:19]}, {opening['uses']}/{opening['max_uses']} calls"


def _say(found: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        print_json(found)
    else:
        say(printable(text))
