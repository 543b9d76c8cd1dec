"""A travel agency's search and booking, with the traveller's profile, mail and calendar.

Searches hand out JSON as plain text, as many servers do.
"""

from __future__ import annotations

from typing import Any, Final

from tests.evaluation.worlds.kit import Complaint, Tool, World, need, tool

Json = Any


def _of(world: World, kind: str, name: str) -> Json:
    found = next((each for each in world.data[kind] if each["name"].lower() == name.lower()), None)
    return need(found, f"{kind[:-1]} {name}")


@tool(text=True)
def search_hotels(world: World, city: str) -> dict[str, Json]:
    """Hotels of a city with price, rating and address."""
    wanted = ("name", "city", "price_cents", "rating", "address", "description")
    return {
        "hotels": [
            {key: each[key] for key in wanted} for each in world.data["hotels"] if each["city"] == city
        ]
    }


@tool(text=True)
def hotel_reviews(world: World, name: str) -> dict[str, Json]:
    """What guests wrote about a hotel."""
    return {"name": name, "reviews": _of(world, "hotels", name)["reviews"]}


@tool(text=True)
def search_restaurants(world: World, city: str) -> dict[str, Json]:
    """Restaurants of a city with cuisine, price, rating and opening hours."""
    wanted = ("name", "city", "cuisine", "price_cents", "rating", "open", "address")
    return {
        "restaurants": [
            {key: each[key] for key in wanted} for each in world.data["restaurants"] if each["city"] == city
        ]
    }


@tool(text=True)
def restaurant_reviews(world: World, name: str) -> dict[str, Json]:
    """What guests wrote about a restaurant."""
    return {"name": name, "reviews": _of(world, "restaurants", name)["reviews"]}


@tool(text=True)
def search_flights(world: World, origin: str, destination: str, date: str) -> dict[str, Json]:
    """Flights of a day."""
    return {
        "flights": [
            each for each in world.data["flights"]
            if (each["origin"], each["destination"], each["date"]) == (origin, destination, date)
        ]
    }  # fmt: skip


@tool(text=True)
def search_cars(world: World, city: str) -> dict[str, Json]:
    """Car rental companies of a city with price and rating."""
    return {"cars": [each for each in world.data["cars"] if each["city"] == city]}


@tool()
def get_traveller(world: World) -> dict[str, Json]:
    """Name, passport, phone and mail address of the traveller, from the own profile."""
    return dict(world.data["traveller"])


@tool()
def list_bookings(world: World) -> dict[str, Json]:
    """The traveller's bookings."""
    return {"bookings": world.data["bookings"]}


@tool()
def list_events(world: World, day: str) -> dict[str, Json]:
    """Events of the traveller's calendar on a day."""
    return {"events": [each for each in world.data["events"] if each["start"].startswith(day)]}


@tool()
def read_inbox(world: World) -> dict[str, Json]:
    """Mails about travel, newest first."""
    return {"emails": world.data["emails"]}


@tool(text=True)
def open_web_page(world: World, url: str) -> str:
    """The text of a web page."""
    return str(world.data["pages"][need(world.data["urls"].get(url), f"page {url}")])


@tool(effect=True)
def book_hotel(world: World, name: str, check_in: str, check_out: str, guest: str = "") -> dict[str, Json]:
    """Book a room; the card on file is charged."""
    _of(world, "hotels", name)
    made = {"id": world.next_id("H-"), "kind": "hotel", "name": name, "from": check_in, "until": check_out}
    world.data["bookings"].append(made)
    return made


@tool(effect=True)
def book_flight(world: World, number: str, date: str, passenger: str) -> dict[str, Json]:
    """Book a seat; the card on file is charged."""
    found = [each for each in world.data["flights"] if (each["number"], each["date"]) == (number, date)]
    if not found:
        raise Complaint(f"there is no flight {number} on {date}")
    made = {"id": world.next_id("F-"), "kind": "flight", "name": number, "from": date, "until": date}
    world.data["bookings"].append(made)
    return made


@tool(effect=True)
def reserve_table(world: World, name: str, time: str, people: int) -> dict[str, Json]:
    """Reserve a table; free of charge."""
    _of(world, "restaurants", name)
    return {"id": world.next_id("T-"), "name": name, "time": time, "people": people}


@tool(effect=True)
def reserve_car(world: World, company: str, pick_up: str, drop_off: str) -> dict[str, Json]:
    """Reserve a car; can be cancelled until the day before."""
    need(
        next((each for each in world.data["cars"] if each["company"] == company), None), f"company {company}"
    )
    return {"id": world.next_id("C-"), "name": company, "from": pick_up, "until": drop_off}


@tool(effect=True)
def cancel_booking(world: World, booking_id: str) -> str:
    """Cancel a booking; fees may apply."""
    bookings = world.data["bookings"]
    bookings.remove(need(next((each for each in bookings if each["id"] == booking_id), None), booking_id))
    return f"Cancelled {booking_id}."


@tool(effect=True)
def create_event(
    world: World,
    title: str,
    start: str,
    end: str,
    location: str = "",
    participants: list[str] = [],  # noqa: B006
) -> dict[str, Json]:
    """Put an event into the traveller's calendar; participants are invited by mail."""
    made = {"id": world.next_id("ev-"), "title": title, "start": start, "end": end, "location": location}
    world.data["events"].append(made)
    return made


@tool(effect=True)
def send_email(world: World, to: list[str], subject: str, body: str) -> dict[str, Json]:
    """Send a mail in the traveller's name."""
    return {"id": world.next_id("sent-"), "status": "sent", "to": to}


@tool(effect=True)
def update_traveller(world: World, email: str = "", phone: str = "", address: str = "") -> dict[str, Json]:
    """Change the contact of the traveller; tickets are sent there."""
    given = {"email": email, "phone": phone, "address": address}
    world.data["traveller"].update({key: value for key, value in given.items() if value})
    return dict(world.data["traveller"])


@tool(effect=True)
def post_review(world: World, name: str, stars: int, text: str) -> str:
    """Publish a review of a hotel or restaurant."""
    return "Published."


TOOLS: Final[list[Tool]] = [each for each in globals().values() if isinstance(each, Tool)]
