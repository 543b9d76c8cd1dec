"""Keys, and what the marks mean; for those without scripts too."""

from __future__ import annotations

from typing import Final

from gateway.surfaces.console.pages import Asked, Data, Page

KEYS: Final = (
    ("/", "go to the filter"),
    ("j", "next row"),
    ("k", "row before"),
    ("Enter", "open the row"),
    ("x", "tick or untick the row"),
    ("a", "go to Approve; Enter presses it"),
    ("r", "go to Reject"),
    ("e", "go to Edit"),
    ("q", "go to the question for the agent"),
    ("n", "next waiting call"),
    ("g", "back to the queue"),
    ("?", "these keys"),
)


async def view(asked: Asked) -> Data:
    return {"keys": [{"key": key, "does": does} for key, does in KEYS]}


PAGES: Final = (Page(path="/help", view=view, template="help.html", title="Keys and marks"),)
ACTS: Final = ()
