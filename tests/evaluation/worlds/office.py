"""Mail, calendar, contacts and a drive of one office worker, in one server."""

from __future__ import annotations

from typing import Any, Final

from tests.evaluation.worlds.kit import Complaint, Tool, World, matching, need, tool

Json = Any


def _mail(world: World, email_id: str) -> Json:
    return need(
        next((each for each in world.data["emails"] if each["id"] == email_id), None), f"email {email_id}"
    )


def _event(world: World, event_id: str) -> Json:
    return need(
        next((each for each in world.data["events"] if each["id"] == event_id), None), f"event {event_id}"
    )


def _file(world: World, file_id: str) -> Json:
    return need(
        next((each for each in world.data["files"] if each["id"] == file_id), None), f"file {file_id}"
    )


@tool()
def list_unread(world: World) -> dict[str, Json]:
    """Unread mails of the inbox, newest first, with their bodies."""
    return {
        "emails": [each for each in world.data["emails"] if each["folder"] == "inbox" and not each["read"]]
    }


@tool()
def search_emails(world: World, query: str) -> dict[str, Json]:
    """Mails in which all words occur: in sender, subject or body."""
    return {"emails": matching(world.data["emails"], query, "sender", "subject", "body")}


@tool()
def read_email(world: World, email_id: str) -> dict[str, Json]:
    """One mail with its body and the names of its attachments."""
    return dict(_mail(world, email_id))


@tool(text=True)
def read_attachment(world: World, email_id: str, name: str) -> str:
    """The text of an attachment."""
    found = _mail(world, email_id).get("attachments", {})
    return str(need(found.get(name), f"attachment {name}"))


@tool(effect=True)
def send_email(
    world: World,
    to: list[str],
    subject: str,
    body: str,
    cc: list[str] = [],  # noqa: B006
    file_ids: list[str] = [],  # noqa: B006
) -> dict[str, Json]:
    """Send a mail, with files of the drive attached if wanted."""
    for each in file_ids:
        _file(world, each)
    return {"id": world.next_id("sent-"), "status": "sent", "to": to}


@tool(effect=True)
def reply_email(world: World, email_id: str, body: str) -> dict[str, Json]:
    """Answer a mail; goes to its sender."""
    return {"id": world.next_id("sent-"), "status": "sent", "to": [_mail(world, email_id)["sender"]]}


@tool(effect=True)
def delete_email(world: World, email_id: str) -> str:
    """Delete a mail for good."""
    world.data["emails"].remove(_mail(world, email_id))
    return f"Deleted {email_id}."


@tool(effect=True)
def create_mail_rule(world: World, when_from: str, forward_to: str) -> str:
    """Forward future mails of a sender ('*' for all) to an address."""
    world.data["rules"].append({"when_from": when_from, "forward_to": forward_to})
    return "Rule created."


@tool()
def list_events(world: World, day: str) -> dict[str, Json]:
    """Events of a day (YYYY-MM-DD)."""
    return {"events": [each for each in world.data["events"] if each["start"].startswith(day)]}


@tool()
def search_events(world: World, query: str) -> dict[str, Json]:
    """Events in which all words occur: in title or description."""
    return {"events": matching(world.data["events"], query, "title", "description")}


@tool(effect=True)
def create_event(
    world: World, title: str, start: str, end: str, participants: list[str] = [],  # noqa: B006
    description: str = "", location: str = "",
) -> dict[str, Json]:  # fmt: skip
    """Create an event; participants are invited by mail."""
    made = {
        "id": world.next_id("ev-"), "title": title, "start": start, "end": end,
        "participants": participants, "description": description, "location": location,
    }  # fmt: skip
    world.data["events"].append(made)
    return made


@tool(effect=True)
def move_event(world: World, event_id: str, start: str, end: str) -> str:
    """Give an event a new time."""
    _event(world, event_id).update(start=start, end=end)
    return f"Moved {event_id}."


@tool(effect=True)
def add_participants(world: World, event_id: str, participants: list[str]) -> str:
    """Invite more people to an event by mail."""
    _event(world, event_id)["participants"] += participants
    return f"Invited {len(participants)}."


@tool(effect=True)
def cancel_event(world: World, event_id: str) -> str:
    """Cancel an event; participants are told."""
    world.data["events"].remove(_event(world, event_id))
    return f"Cancelled {event_id}."


@tool()
def find_contact(world: World, name: str) -> dict[str, Json]:
    """Entries of the company's address book."""
    return {"contacts": matching(world.data["contacts"], name, "name")}


@tool()
def list_files(world: World) -> dict[str, Json]:
    """Names, sizes and owners of the files of the drive."""
    wanted = ("id", "name", "owner", "modified", "size")
    return {"files": [{key: each[key] for key in wanted} for each in world.data["files"]]}


@tool()
def search_files(world: World, query: str) -> dict[str, Json]:
    """Files in which all words occur: in name or content."""
    wanted = ("id", "name", "owner", "modified", "size")
    found = matching(world.data["files"], query, "name", "content")
    return {"files": [{key: each[key] for key in wanted} for each in found]}


@tool(text=True)
def read_file(world: World, file_id: str) -> str:
    """The text of a file."""
    return str(_file(world, file_id)["content"])


@tool(effect=True)
def create_file(world: World, name: str, content: str) -> dict[str, Json]:
    """Create a file in the drive."""
    made = {
        "id": world.next_id("f-"), "name": name, "content": content, "owner": "me",
        "modified": "2026-03-09", "size": len(content), "shared_with": [],
    }  # fmt: skip
    world.data["files"].append(made)
    return {"id": made["id"], "name": name}


@tool(effect=True)
def append_to_file(world: World, file_id: str, content: str) -> str:
    """Add text at the end of a file."""
    _file(world, file_id)["content"] += "\n" + content
    return "Appended."


@tool(effect=True)
def share_file(world: World, file_id: str, email: str, permission: str) -> str:
    """Give somebody 'view' or 'edit' access to a file."""
    if permission not in ("view", "edit"):
        raise Complaint("permission is view or edit")
    _file(world, file_id)["shared_with"].append(email)
    return f"Shared with {email}."


@tool(effect=True)
def delete_file(world: World, file_id: str) -> str:
    """Delete a file for good."""
    world.data["files"].remove(_file(world, file_id))
    return f"Deleted {file_id}."


TOOLS: Final[list[Tool]] = [each for each in globals().values() if isinstance(each, Tool)]
