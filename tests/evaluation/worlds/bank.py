"""A bank account, its standing orders and contacts, and the folder bills are scanned into."""

from __future__ import annotations

from typing import Any, Final

from tests.evaluation.worlds.kit import Complaint, Tool, World, matching, need, tool

Json = Any


@tool()
def get_balance(world: World) -> dict[str, Json]:
    """The balance of the account."""
    return {"iban": world.data["iban"], "balance_cents": world.data["balance_cents"], "currency": "EUR"}


@tool()
def list_transactions(world: World, count: int = 20) -> dict[str, Json]:
    """The latest transactions, with the subject their sender wrote."""
    return {"transactions": world.data["transactions"][:count]}


@tool()
def search_transactions(world: World, query: str) -> dict[str, Json]:
    """Transactions in which all words occur: in the name of the other side or the subject."""
    return {"transactions": matching(world.data["transactions"], query, "name", "subject")}


@tool()
def list_standing_orders(world: World) -> dict[str, Json]:
    """Standing orders of the account, written by its owner."""
    return {"standing_orders": world.data["standing_orders"]}


@tool()
def list_payees(world: World) -> dict[str, Json]:
    """Payees that the owner of the account has saved."""
    return {"payees": world.data["payees"]}


@tool()
def find_payee(world: World, name: str) -> dict[str, Json]:
    """Saved payees by name."""
    return {"payees": matching(world.data["payees"], name, "name")}


@tool()
def list_documents(world: World) -> dict[str, Json]:
    """Scanned and received documents."""
    return {
        "documents": [
            {"name": each["name"], "received": each["received"]} for each in world.data["documents"]
        ]
    }


@tool(text=True)
def read_document(world: World, name: str) -> str:
    """The text of a document."""
    found = next((each for each in world.data["documents"] if each["name"] == name), None)
    return str(need(found, f"document {name}")["text"])


@tool()
def list_messages(world: World) -> dict[str, Json]:
    """Messages in the mailbox of the account: of the bank, and of people who sent payment requests."""
    return {"messages": world.data["messages"]}


@tool()
def get_profile(world: World) -> dict[str, Json]:
    """Name, address and contact of the owner."""
    return dict(world.data["profile"])


@tool(effect=True)
def send_payment(
    world: World, recipient_iban: str, recipient_name: str, amount_cents: int, subject: str, date: str = ""
) -> dict[str, Json]:
    """Pay by bank transfer, at once or on a date."""
    if amount_cents <= 0:
        raise Complaint("the amount must be positive")
    if amount_cents > world.data["balance_cents"]:
        raise Complaint("not enough money")
    world.data["balance_cents"] -= amount_cents
    return {"id": world.next_id("pay-"), "status": "executed"}


@tool(effect=True)
def create_standing_order(
    world: World,
    recipient_iban: str,
    recipient_name: str,
    amount_cents: int,
    subject: str,
    interval: str,
    first: str,
) -> dict[str, Json]:
    """Pay the same amount every month or quarter."""
    made = {
        "id": world.next_id("so-"), "name": recipient_name, "iban": recipient_iban,
        "amount_cents": amount_cents, "subject": subject, "interval": interval, "next": first,
    }  # fmt: skip
    world.data["standing_orders"].append(made)
    return made


@tool(effect=True)
def change_standing_order(
    world: World, order_id: str, amount_cents: int = 0, recipient_iban: str = ""
) -> dict[str, Json]:
    """Change amount or recipient of a standing order; what is left out stays."""
    orders = world.data["standing_orders"]
    order = need(
        next((each for each in orders if each["id"] == order_id), None), f"standing order {order_id}"
    )
    if amount_cents:
        order["amount_cents"] = amount_cents
    if recipient_iban:
        order["iban"] = recipient_iban
    return dict(order)


@tool(effect=True)
def cancel_standing_order(world: World, order_id: str) -> str:
    """End a standing order."""
    orders = world.data["standing_orders"]
    orders.remove(need(next((each for each in orders if each["id"] == order_id), None), f"order {order_id}"))
    return f"Ended {order_id}."


@tool(effect=True)
def save_payee(world: World, name: str, iban: str) -> str:
    """Save or replace a payee."""
    world.data["payees"] = [each for each in world.data["payees"] if each["name"] != name]
    world.data["payees"].append({"name": name, "iban": iban})
    return f"Saved {name}."


@tool(effect=True)
def update_profile(
    world: World, street: str = "", city: str = "", phone: str = "", email: str = ""
) -> dict[str, Json]:
    """Change address, phone or mail address of the owner; what is left out stays."""
    given = {"street": street, "city": city, "phone": phone, "email": email}
    world.data["profile"].update({key: value for key, value in given.items() if value})
    return dict(world.data["profile"])


@tool(effect=True)
def change_password(world: World, password: str) -> str:
    """Give the account a new password."""
    return "Changed."


@tool(effect=True)
def answer_message(world: World, message_id: str, text: str) -> str:
    """Answer a message of the mailbox."""
    need(
        next((each for each in world.data["messages"] if each["id"] == message_id), None),
        f"message {message_id}",
    )
    return "Sent."


@tool(effect=True)
def block_card(world: World, card_id: str) -> str:
    """Block a card for good; a new one is sent by post."""
    need(next((each for each in world.data["cards"] if each["id"] == card_id), None), f"card {card_id}")
    return "Blocked."


@tool()
def list_cards(world: World) -> dict[str, Json]:
    """Cards of the account."""
    return {"cards": world.data["cards"]}


TOOLS: Final[list[Tool]] = [each for each in globals().values() if isinstance(each, Tool)]
