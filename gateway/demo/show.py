"""The demo on the terminal: the story as a table, then the proof, then where to look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.cli.output import printable
from gateway.demo import gitserver, office
from gateway.demo.earned import earn_and_lose
from gateway.demo.stage import REDACTED, Played, play
from gateway.demo.story import Step, promised_effects, story
from gateway.demo.world import World

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_EXCERPT: Final = 76
_STYLE: Final = {
    "allowed": "green",
    "redacted": "cyan",
    "escalated": "yellow",
    "denied": "red",
    "failed": "bold red",
}


async def run(folder: Path, console: Console, *, keep: bool) -> int:
    """Play the whole demo; the exit code is 0 when everything went as the story says, else 1."""
    console.print("Starting the office, the git server and the gateway …", style="dim")
    with World(folder) as world:
        steps = story(str(world.repository))
        played = await _play(world, steps, console)
        broken = [*_unlike(played), *_proof(world, steps, console), *_records(world, len(steps), console)]
        broken += await earn_and_lose(folder, console)
        _where(world, console, keep=keep)
        for sentence in broken:
            console.print(f"✗ {sentence}", style="bold red", markup=False)
        if keep:
            console.print("\nRunning. Press Ctrl-C to stop.")
            await _forever()
    return 1 if broken else 0


async def _play(world: World, steps: Sequence[Step], console: Console) -> list[Played]:
    """Play and print each row as it happens, in columns of fixed width."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for heading, width in (("agent", 11), ("wants to", 26), ("tool", 17), ("outcome", 9)):
        table.add_column(heading, min_width=width, overflow="fold")
    table.add_column("what it gets to read", overflow="fold", ratio=1)
    played = []
    with console.status("the agents are working …"):
        async for one in play(world, steps):
            played.append(one)
            table.add_row(one.step.agent, one.step.aim, one.step.tool, _outcome(one), _why(one))
    console.print()
    console.print(table)
    return played


def _outcome(one: Played) -> Text:
    from rich.text import Text

    return Text(one.outcome, style=_STYLE[one.outcome])


def _why(one: Played) -> Text:
    """The gateway's own words to the agent, and of an answer how it begins."""
    from rich.text import Text

    if one.reason:
        remedy = f"\n→ {one.remedy}" if one.remedy else ""
        return Text(printable(one.reason + remedy))
    lines = [line.strip() for line in one.text.splitlines() if any(char.isalnum() for char in line)]
    telling = [line for line in lines if REDACTED in line] or [
        line for line in lines if "instructions" in line
    ]
    return Text(printable(_shortened((telling or lines or [""])[0])), style="dim")


def _shortened(line: str) -> str:
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 1] + "…"


def _unlike(played: Sequence[Played]) -> list[str]:
    return [
        f"{one.step.agent}, {one.step.aim}: expected {one.step.outcome} {one.step.code},"
        f" and it was {one.outcome} {one.code}: {one.text[:200]}"
        for one in played
        if not one.as_told
    ]


def _proof(world: World, steps: Sequence[Step], console: Console) -> list[str]:
    """Ask the office and git what really happened; neither knows of the gateway."""
    promised = promised_effects(steps)
    real = office.effects(world.office_state)
    commits = gitserver.commits(world.repository)
    refused = sum(step.outcome in ("denied", "escalated") for step in steps)
    console.print("\nWhat really happened, by the books of the office and of git:", style="bold")
    for tool in ("pay_invoice", "send_mail", "update_customer", "export_customers", "delete_customer"):
        console.print(
            f"  {tool:<17} {real.get(tool, 0)} of {sum(step.tool == tool for step in steps)} asked for"
        )
    console.print(f"  {'git commits':<17} {commits} (3 before)")
    if real != promised:
        return [f"the office counts {real}, and the story promised {promised}"]
    if commits != 4:
        return [f"the repository has {commits} commits instead of 4"]
    console.print(f"None of the {refused} refused calls had an effect.", style="green")
    return []


def _records(world: World, calls: int, console: Console) -> list[str]:
    """Read the decisions back with the same command a user has."""
    listed = json.loads(world.wardgate("decisions", "list", "--limit", "500", "--json"))
    console.print(
        "\nEach call is on record; the newest three, as 'wardgate decisions list' shows them:", style="bold"
    )
    shown = world.wardgate("decisions", "list", "--limit", "3", width=console.width)
    console.print(shown.rstrip(), markup=False, highlight=False, soft_wrap=True)
    found = len(listed["items"])
    return [] if found == calls else [f"{found} calls are on record, and {calls} were made"]


def _where(world: World, console: Console, *, keep: bool) -> None:
    config = f"--config {world.config}"
    console.print("\nLook for yourself:", style="bold")
    for line in (
        f"wardgate decisions list {config}",
        f"wardgate decisions show CALL-ID {config}",
        f"wardgate policy inspect {config}",
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    if keep:
        console.print(f"  agents    {world.agents_url}/mcp")
        console.print(f"  console   {world.admin_url}/console")
        console.print(f"  API docs  {world.admin_url}/docs")
        console.print(f"  metrics   {world.admin_url}/metrics")
        console.print(f"  operator  {world.operator_key}", soft_wrap=True, highlight=False)
        for agent, key in world.keys.items():
            console.print(f"  {agent:<11} WARDGATE_KEY={key}", soft_wrap=True, highlight=False)
    else:
        console.print("  make demo KEEP=1   (or: wardgate demo --keep) leaves it running, with")
        console.print(f"  API docs at {world.admin_url}/docs and metrics at {world.admin_url}/metrics")


async def _forever() -> None:
    import asyncio
    import signal

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
