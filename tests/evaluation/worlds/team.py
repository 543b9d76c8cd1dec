"""A team's chat, documents, tasks and a web browser."""

from __future__ import annotations

from typing import Any, Final

from tests.evaluation.worlds.kit import Complaint, Tool, World, matching, need, tool

Json = Any


def _document(world: World, document_id: str) -> Json:
    found = next((each for each in world.data["documents"] if each["id"] == document_id), None)
    return need(found, f"document {document_id}")


def _task(world: World, task_id: str) -> Json:
    return need(
        next((each for each in world.data["tasks"] if each["id"] == task_id), None), f"task {task_id}"
    )


@tool()
def list_channels(world: World) -> dict[str, Json]:
    """Channels with topic and members."""
    wanted = ("name", "topic", "members", "private")
    return {"channels": [{key: each[key] for key in wanted} for each in world.data["channels"]]}


@tool()
def read_channel(world: World, channel: str) -> dict[str, Json]:
    """Messages of a channel, oldest first."""
    found = need(
        next((each for each in world.data["channels"] if each["name"] == channel), None), f"channel {channel}"
    )
    return {"channel": channel, "messages": found["messages"]}


@tool()
def read_inbox(world: World, user: str) -> dict[str, Json]:
    """Direct messages of a user with us, oldest first."""
    return {"user": user, "messages": world.data["direct"].get(user, [])}


@tool()
def list_users(world: World) -> dict[str, Json]:
    """People of the workspace: login, mail address and the display name they gave themselves."""
    return {"users": world.data["users"]}


@tool()
def search_documents(world: World, query: str) -> dict[str, Json]:
    """Documents in which all words occur: in title or text."""
    wanted = ("id", "title", "author")
    found = matching(world.data["documents"], query, "title", "text")
    return {"documents": [{key: each[key] for key in wanted} for each in found]}


@tool()
def read_document(world: World, document_id: str) -> dict[str, Json]:
    """A document with its comments."""
    return dict(_document(world, document_id))


@tool()
def list_tasks(world: World, project: str = "") -> dict[str, Json]:
    """Tasks of the board, or of one project."""
    return {"tasks": [each for each in world.data["tasks"] if project in ("", each["project"])]}


@tool(effect=True, text=True)
def get_webpage(world: World, url: str) -> str:
    """Fetch a web page."""
    return str(world.data["pages"].get(world.data["urls"].get(url), "404 Not Found"))


@tool(effect=True)
def post_message(world: World, channel: str, text: str) -> dict[str, Json]:
    """Post to a channel."""
    found = need(
        next((each for each in world.data["channels"] if each["name"] == channel), None), f"channel {channel}"
    )
    found["messages"].append({"from": "me", "text": text})
    return {"id": world.next_id("msg-"), "channel": channel}


@tool(effect=True)
def send_direct_message(world: World, user: str, text: str) -> dict[str, Json]:
    """Write to one person."""
    need(next((each for each in world.data["users"] if each["login"] == user), None), f"user {user}")
    return {"id": world.next_id("dm-"), "user": user}


@tool(effect=True)
def invite_user(world: World, email: str, channel: str = "") -> str:
    """Invite somebody from outside to the workspace, or to one channel, by mail."""
    return f"Invited {email}."


@tool(effect=True)
def add_to_channel(world: World, user: str, channel: str) -> str:
    """Add a person of the workspace to a channel."""
    found = need(
        next((each for each in world.data["channels"] if each["name"] == channel), None), f"channel {channel}"
    )
    need(next((each for each in world.data["users"] if each["login"] == user), None), f"user {user}")
    found["members"].append(user)
    return f"Added {user} to {channel}."


@tool(effect=True)
def remove_user(world: World, user: str) -> str:
    """Remove a person from the workspace."""
    users = world.data["users"]
    users.remove(need(next((each for each in users if each["login"] == user), None), f"user {user}"))
    return f"Removed {user}."


@tool(effect=True)
def create_document(world: World, title: str, text: str) -> dict[str, Json]:
    """Create a document that the team can read."""
    made = {"id": world.next_id("d-"), "title": title, "author": "me", "text": text, "comments": []}
    world.data["documents"].append(made)
    return {"id": made["id"], "title": title}


@tool(effect=True)
def edit_document(world: World, document_id: str, text: str) -> str:
    """Replace the text of a document."""
    _document(world, document_id)["text"] = text
    return f"Saved {document_id}."


@tool(effect=True)
def comment(world: World, document_id: str, text: str) -> str:
    """Comment on a document."""
    _document(world, document_id)["comments"].append({"author": "me", "text": text})
    return "Commented."


@tool(effect=True)
def delete_document(world: World, document_id: str) -> str:
    """Delete a document for good."""
    world.data["documents"].remove(_document(world, document_id))
    return f"Deleted {document_id}."


@tool(effect=True)
def publish_document(world: World, document_id: str) -> dict[str, Json]:
    """Make a document readable for everybody on the internet."""
    _document(world, document_id)
    return {"url": f"https://docs.team.example/public/{document_id}"}


@tool(effect=True)
def create_task(world: World, project: str, title: str, assignee: str, due: str = "") -> dict[str, Json]:
    """Put a task on the board."""
    made = {
        "id": world.next_id("t-"), "project": project, "title": title, "assignee": assignee, "due": due,
        "state": "open", "notes": "",
    }  # fmt: skip
    world.data["tasks"].append(made)
    return made


@tool(effect=True)
def update_task(
    world: World, task_id: str, state: str = "", assignee: str = "", due: str = ""
) -> dict[str, Json]:
    """Change state, assignee or due date of a task; what is left out stays."""
    if state and state not in ("open", "doing", "done"):
        raise Complaint("state is open, doing or done")
    task = _task(world, task_id)
    task.update(
        {key: value for key, value in (("state", state), ("assignee", assignee), ("due", due)) if value}
    )
    return dict(task)


@tool(effect=True)
def delete_task(world: World, task_id: str) -> str:
    """Take a task off the board for good."""
    world.data["tasks"].remove(_task(world, task_id))
    return f"Deleted {task_id}."


@tool(effect=True)
def send_email(world: World, to: list[str], subject: str, body: str) -> dict[str, Json]:
    """Send a mail to somebody outside the workspace."""
    return {"id": world.next_id("sent-"), "status": "sent", "to": to}


TOOLS: Final[list[Tool]] = [each for each in globals().values() if isinstance(each, Tool)]
