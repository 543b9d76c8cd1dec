"""``wardgate approvals``: held calls, and what reviewers do with them.

It asks the running gateway, with the reviewer's own key: nobody decides by having the database file. What is
decided is what was shown: a decision names the version and the digest, and is refused when either has moved.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from gateway.cli.office import DEFAULT_URL, Office, Url
from gateway.cli.output import (
    AsJson,
    fail,
    print_json,
    print_table,
    printable,
    say,
)

app = typer.Typer(help="Look at held calls and decide about them.", no_args_is_help=True)

LEAST_DIGEST: Final = 12
_WATCH_S: Final = 10.0
_HEADINGS: Final = ("id", "state", "agent", "tool", "risk", "asked for", "decide by")

_MEASURED: Final = ("decided", "approved", "median", "this hour", "canaries", "alarms")
"""What fits into a terminal of 80 columns; ``--json`` has the rest."""

Id = Annotated[str, typer.Argument(help="Id of the approval.")]
Why = Annotated[str, typer.Option("--reason", help="Why; some chains ask for it.")]
Digest = Annotated[
    str, typer.Option("--digest", help="The digest you looked at, or its first 12 digits or more.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not show it and ask; needs --digest.")]
Code = Literal["not_needed", "wrong_arguments", "too_risky", "out_of_scope", "not_now", "other"]


@app.command("list")
def list_approvals(
    state: Annotated[
        list[str] | None, typer.Option(help="Only in this state; all that are not over by default.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only of this tool (upstream/name).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List held calls, newest first."""
    found = Office(url).get("/v1/approvals", state=state, agent=agent, tool=tool, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table("", _HEADINGS, [_row(each) for each in found["items"]])


@app.command()
def show(approval: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show one held call: what would be sent, why a person is asked, and who has said what."""
    found = Office(url).get(f"/v1/approvals/{approval}")
    if as_json:
        print_json(found)
    else:
        _tell(found)


@app.command()
def approve(
    approval: Id, reason: Why = "", digest: Digest = "", yes: Yes = False, url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Approve a call once."""
    _write(url, approval, "approve", digest, yes, as_json, {"reason": reason})


@app.command()
def reject(
    approval: Id,
    code: Annotated[Code, typer.Option("--code", help="Why, for the agent and for counting.")],
    reason: Annotated[str, typer.Option("--reason", help="In words the agent can act on.")] = "",
    digest: Digest = "",
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Reject a call; the agent is told the code and the reason."""
    _write(url, approval, "reject", digest, yes, as_json, {"reason_code": code, "reason": reason})


@app.command()
def edit(
    approval: Id,
    file: Annotated[
        Path | None, typer.Argument(help="File with the arguments as JSON; without it an editor is opened.")
    ] = None,
    digest: Digest = "",
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Put other arguments in place of the agent's. Somebody else must approve them too."""
    import orjson

    before = Office(url).get(f"/v1/approvals/{approval}")
    if file is not None:
        text = file.read_text()
    else:
        shown = orjson.dumps(before["arguments"], option=orjson.OPT_INDENT_2).decode()
        import click

        text = click.edit(shown, extension=".json") or ""
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fail(f"The arguments are not JSON: {error}.", "Nothing was changed.")
    _write(url, approval, "edit", digest or str(before["digest"]), yes, as_json, {"arguments": arguments})


@app.command()
def ask(
    approval: Id,
    question: Annotated[str, typer.Argument(help="What the agent is asked when it calls again.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Ask the agent a question."""
    _write(url, approval, "ask", "", True, as_json, {"question": question}, pinned=False)


@app.command()
def cancel(
    approval: Id, reason: Why = "", digest: Digest = "", yes: Yes = False, url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """End an approval that was not carried out yet."""
    _write(url, approval, "cancel", digest, yes, as_json, {"reason": reason})


@app.command()
def resolve(
    approval: Id,
    became: Annotated[
        Literal["executed", "not_executed"],
        typer.Argument(help="What became of it, by the tool's own books."),
    ],
    note: Annotated[str, typer.Option("--note", help="How you know; stays on record.")],
    digest: Digest = "",
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Say what became of an approved call whose outcome is in doubt."""
    _write(url, approval, "resolve", digest, yes, as_json, {"became": became, "note": note})


@app.command()
def grant(
    approval: Id,
    field: Annotated[
        list[str] | None, typer.Option(help="JSON pointer of an argument that may vary, such as /text.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=60, help="How long.")] = 30,
    uses: Annotated[int, typer.Option(min=1, max=20, help="How often.")] = 10,
    budget: Annotated[int, typer.Option(min=0, help="How much in all, in micro-USD.")] = 0,
    any_session: Annotated[bool, typer.Option("--any-session", help="In any session of the agent.")] = False,
    digest: Digest = "",
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Permit calls similar to one that you have approved, for a while."""
    body = {
        "fields": field or [], "minutes": minutes, "uses": uses, "budget_micro_usd": budget,
        "any_session": any_session,
    }  # fmt: skip
    _write(url, approval, "grant", digest, yes, as_json, body)


@app.command()
def incident(
    approval: Id,
    note: Annotated[str, typer.Option("--note", help="What was wrong.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Report that an approved call turned out to be wrong."""
    office = Office(url)
    body = {"digest": office.get(f"/v1/approvals/{approval}")["digest"], "note": note}
    found = office.post(f"/v1/approvals/{approval}/incident", body, None)
    if as_json:
        print_json(found)
    else:
        say(printable(f"On record for {found['id']} ({found['target']})."))


@app.command()
def canary(
    approval: Annotated[str, typer.Argument(help="Id of the approval to copy.")],
    file: Annotated[Path, typer.Argument(help="File with arguments that must be rejected, as JSON.")],
    note: Annotated[str, typer.Option("--note", help="Why; shown once it is decided.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Put a canary into the queue: never carried out, and whoever approves it did not look."""
    import orjson

    try:
        arguments = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        fail(f"{file} cannot be used: {error}.", "Nothing was made.")
    office = Office(url)
    digest = office.get(f"/v1/approvals/{approval}")["digest"]
    body = {"digest": digest, "arguments": arguments, "note": note}
    found = office.post(f"/v1/approvals/{approval}/canary", body, None)
    if as_json:
        print_json(found)
    else:
        say(f"{found['id']} waits until {found['decide_by'][:19]}. You cannot decide about it: you know it.")


@app.command()
def reviewers(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show how people review, by person and by rule, and what is a reason to worry."""
    found = Office(url).get("/v1/reviewers")
    if as_json:
        print_json(found)
        return
    for name in ("reviewers", "rules"):
        print_table(name, (name[:-1], *_MEASURED), [_measured(each) for each in found[name]])
    autonomy = found["autonomy"]
    if autonomy["share"] is not None:
        say(
            f"Of {autonomy['calls']} calls of the last day that may change something,"
            f" {autonomy['share']:.0%} went on without a person."
        )


@app.command()
def grants(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List standing permissions, newest first."""
    found = Office(url).get("/v1/grants")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["id"], each["agent"], each["target"], ", ".join(each["fields"]) or "-",
            f"{each['uses']}/{each['max_uses']}", each["expires"][:19],
            f"revoked by {each['revoked_by']}" if each["revoked"] else "",
        )
        for each in found["items"]
    ]  # fmt: skip
    print_table(
        "",
        ("id", "agent", "tool", "may vary", "uses", "expires", ""),
        [tuple(map(printable, r)) for r in rows],
    )


@app.command()
def revoke(
    grant_id: Annotated[str, typer.Argument(help="Id of the grant.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """End a standing permission at once."""
    found = Office(url).post(f"/v1/grants/{grant_id}/revoke", {}, None)
    if as_json:
        print_json(found)
    else:
        say(f"Revoked {found['id']}.")


@app.command()
def watch(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Follow held calls: one line for each that comes or changes, until interrupted."""
    office = Office(url)
    cursor = office.get("/v1/approvals/changes")["cursor"]  # before the list, so that nothing is missed
    for each in reversed(office.get("/v1/approvals", limit=500)["items"]):
        _watched(each, as_json)
    while True:
        found = office.get("/v1/approvals/changes", after=cursor, wait=_WATCH_S)
        cursor = found["cursor"]
        # Of several changes of one approval in an answer the last says all.
        for each in {change["approval"]["id"]: change["approval"] for change in found["items"]}.values():
            _watched(each, as_json)


def _watched(each: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(each)
    else:
        say("  ".join(_row(each)))
    sys.stdout.flush()


# ------------------------------------------------------------------------------------------------ in common


def _write(
    url: str, approval: str, verb: str, digest: str, yes: bool, as_json: bool, body: dict[str, Any], *,
    pinned: bool = True,
) -> None:  # fmt: skip
    if yes and pinned and len(digest) < LEAST_DIGEST:
        fail("--yes needs --digest: what nobody has looked at, nobody decides.")
    office = Office(url)
    found = office.get(f"/v1/approvals/{approval}")
    if digest and not (len(digest) >= LEAST_DIGEST and found["digest"].startswith(digest)):
        fail(
            "It is not what you looked at: the digest is another one.", "'wardgate approvals show' shows it."
        )
    if not yes:
        _tell(found)
        if not typer.confirm(f"{verb.capitalize()} this?", err=True):
            fail("Nothing was done.")
    after = office.post(
        f"/v1/approvals/{approval}/{verb}", {"digest": found["digest"], **body}, found["version"]
    )
    if as_json:
        print_json(after)
    elif verb == "grant":
        say(f"Granted: {after['id']}, {after['max_uses']} uses until {after['expires'][:19]}.")
    else:
        say(printable(f"{after['id']} is {after['state']}."))


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    asked = ", ".join(need["code"] for need in each["requirements"])
    return tuple(
        printable(str(part))
        for part in (
            each["id"], each["state"], each["agent"], each["target"], each["risk"], asked,
            each["decide_by"][:19],
        )
    )  # fmt: skip


def _measured(line: dict[str, Any]) -> tuple[str, ...]:
    normal = line["normal"]
    alarms = [*line["alarms"], *(["capped"] if line["capped"] else [])]
    return (
        printable(line["name"]),
        str(normal["decided"]),
        "-" if normal["rate"] is None else f"{normal['rate']:.0%}",
        "-" if normal["median_s"] is None else f"{normal['median_s']:.1f} s",
        str(normal["last_hour"]),
        f"{line['canaries_approved']} of {line['canaries']}" if line["canaries"] else "-",
        ", ".join(alarms),
    )


def _tell(found: dict[str, Any]) -> None:
    import orjson

    arguments = found["arguments"]
    shown = (
        orjson.dumps(arguments, option=orjson.OPT_INDENT_2).decode() if arguments is not None else "not shown"
    )
    for name, value in (
        ("call", f"{found['target']} ({found['risk']}; {', '.join(found['effects']) or 'no effects named'})"),
        ("agent", f"{found['agent']} of {found['owner']}, for {found['subject'] or 'nobody in particular'}"),
        ("session", found["session"]),
        ("state", f"{found['state']}, version {found['version']}"),
        ("digest", found["digest"]),
        ("decide by", found["decide_by"][:19]),
        ("waits for", found["waiting_for"] or "-"),
    ):
        _line(f"{name:10} {value}")
    say("arguments")
    for line in shown.splitlines():
        _line(f"  {line}")
    for each in found["hidden_characters"]:
        _line(f"  careful: {each['pointer']} has characters nobody sees: {each['characters']}")
    for each in found["reasons"]:
        _line(f"why        {each['code']} ({each['rule']}): {each['message']}")
    for each in found["votes"]:
        place = f" for {each['for']}" if each.get("for") else ""
        _line(f"vote       {each['by']}{place}: {each['decision']} {each['reason']}")
    for name in ("question", "answer", "reason_text"):
        if found[name]:
            _line(f"{name:10} {found[name]}")
    if found["you"]["own_call"]:
        say("           This call comes from you, so you cannot decide about it.")


def _line(text: str) -> None:
    """One line, whatever is in it: words of an agent must not look like a line of ours."""
    say(printable(text).replace("\n", "␤"))
