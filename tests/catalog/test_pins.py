"""What a pin promises: any change an agent could read is seen, and what nobody accepted is held."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.catalog import pinning
from gateway.catalog.catalog import ToolCatalog
from gateway.catalog.concealed import MAX_TEXT, conceals, findings
from gateway.catalog.entries import schema_hash
from gateway.catalog.looks import looks
from gateway.catalog.pinning import EVENTS, MAX_PINS, SAVE_BURST, SAVE_GAP_S, Pinning
from gateway.config_upstream import PinsConfig, UpstreamConfig
from gateway.errors import InDoubt, StateError
from gateway.pins import BY_CONFIGURATION, FIRST_CONTACT, FLAGS, PinRow, judged
from gateway.storage.database import Database
from gateway.storage.pins import Pins
from gateway.telemetry import specs
from tests.storage.at import at

LIST = {"inputSchema": {"type": "object"}}


def entry(name: str, description: str = "Plain.", **more: Any) -> dict[str, Any]:
    return {"name": name, "description": description, **LIST, **more}


class Clock:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def now_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now


class Kept:
    """Real storage that counts its writes, and fails when told to."""

    def __init__(self, database: Database) -> None:
        self.pins = Pins(database)
        self.saves = 0
        self.broken = False

    def load(self) -> tuple[frozenset[str], Sequence[PinRow]]:
        return self.pins.load()

    def save(self, *what: Any) -> None:
        if self.broken:
            raise StateError("state_unavailable", "disk full")
        self.saves += 1
        self.pins.save(*what)


class Scene:
    """Upstreams that list what the test says, over one storage; ``restart`` forgets what is in memory."""

    def __init__(self, database: Database, *names: str, **policy: Any) -> None:
        self.names = names or ("up",)
        self.policy = policy
        self.lists: dict[str, dict[str, Any]] = {name: {} for name in self.names}
        self.stored = Kept(database)
        self.clock = Clock()
        self.events: list[tuple[str, str]] = []
        self.catalog: ToolCatalog = None  # type: ignore[assignment]  # ``restart`` comes first

    async def restart(self) -> None:
        configs = {
            name: UpstreamConfig(url="http://127.0.0.1:1/", pins=PinsConfig(**self.policy))
            for name in self.names
        }
        pins = Pinning(
            {name: each.pins for name, each in configs.items()}, self.stored, self.clock, self._told
        )
        await pins.load()
        self.catalog = ToolCatalog(configs, pins=pins)

    def _told(self, upstream: str, event: str, times: int) -> None:
        self.events += [(upstream, event)] * times

    async def lists_now(self, *tools: Mapping[str, Any], upstream: str = "up", **more: Any) -> None:
        """The upstream lists these tools (``prompt``, ``resource``, ``template`` by name), and is asked."""
        self.lists[upstream] = {"tool": tools, **more}
        if self.catalog is None:
            await self.restart()
        await self.refresh(upstream)

    async def refresh(self, upstream: str = "up") -> bool:
        return await self.catalog.refresh(upstream, self._fetch)

    async def _fetch(self, upstream: str, kind: str) -> Any:
        return self.lists[upstream].get(kind)

    def offered(self, upstream: str | None = None) -> list[str]:
        return [tool.name for tool in self.catalog.tools("tool", upstream)]

    def pin(self, name: str, upstream: str = "up", kind: Any = "tool") -> tuple[str, tuple[str, ...], bool]:
        pin = self.catalog.resolve(kind, upstream, name).pin
        return pin.state, pin.flags, pin.quarantined

    def row(self, name: str, upstream: str = "up") -> PinRow:
        return next(row for row in self.stored.load()[1] if (row.upstream, row.name) == (upstream, name))

    async def accept(self, name: str, upstream: str = "up") -> None:
        assert self.stored.pins.accept(self.row(name, upstream), "ada")
        await self.catalog.judge_again()

    async def reject(self, name: str) -> None:
        assert self.stored.pins.reject(self.row(name), "ada")
        await self.catalog.judge_again()


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with at(tmp_path / "wardgate.db").open() as opened:
        yield opened


@pytest.fixture
def scene(database: Database) -> Any:
    return lambda *names, **policy: Scene(database, *names, **policy)


# -------------------------------------------------------------------------------------------- states


async def test_the_first_list_is_accepted_and_everything_after_it_is_held(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("a"), entry("b"), prompt=[entry("p")], template=[{"uriTemplate": "x://{y}"}])
    assert up.offered() == ["a", "b"] and not up.catalog.held()
    await up.lists_now(entry("a", "Other."), entry("b"), entry("c"), prompt=[entry("p", "O.")], template=[])
    assert up.offered() == ["b"] and not up.catalog.tools("prompt")
    assert up.pin("a") == ("changed", (), True)
    assert up.pin("c") == ("new", (), True)
    assert up.pin("p", kind="prompt") == ("changed", (), True)
    assert up.row("a").accepted_by == FIRST_CONTACT and up.row("c").accepted_hash is None
    assert up.row("x://{y}").listed is False


async def test_an_empty_first_list_is_not_what_somebody_trusted(scene: Any) -> None:
    up = scene()
    await up.lists_now()
    await up.lists_now(entry("a"))
    assert up.offered() == ["a"]


async def test_what_a_person_accepts_is_offered_and_what_a_person_rejects_is_not(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("a"), entry("b"))
    await up.lists_now(entry("a", "Other."), entry("b"))
    revision = up.catalog.revision
    await up.accept("a")
    assert up.offered() == ["a", "b"] and up.catalog.revision != revision
    assert (up.row("a").accepted_by, up.row("a").accepted_hash) == ("ada", up.row("a").listed_hash)
    await up.reject("b")
    assert up.offered() == ["a"] and up.pin("b") == ("rejected", (), True)
    await up.restart()
    await up.refresh()
    assert up.offered() == ["a"]
    await up.accept("b")
    assert up.offered() == ["a", "b"] and up.row("b").rejected_by is None


async def test_the_definition_that_was_accepted_is_good_again(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("a"))
    await up.lists_now(entry("a", "Other."))
    assert up.offered() == []
    await up.lists_now(entry("a"))
    assert up.offered() == ["a"] and ("up", "restored") in up.events


async def test_accepting_another_definition_than_the_listed_one_is_refused(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("a"))
    await up.lists_now(entry("a", "One."))
    seen = up.row("a")
    await up.lists_now(entry("a", "Two."))
    assert not up.stored.pins.accept(seen, "ada") and not up.stored.pins.reject(seen, "ada")
    gone = up.row("a")
    await up.lists_now(entry("b"))
    assert not up.stored.pins.accept(gone, "ada"), "what is not listed cannot be accepted"


async def test_what_was_removed_is_pinned_when_it_comes_back_and_changed_when_it_is_another(
    scene: Any,
) -> None:
    up = scene()
    await up.lists_now(entry("a"), entry("b"))
    await up.lists_now(entry("b"))
    await up.lists_now(entry("a"), entry("b"))
    assert up.pin("a") == ("pinned", (), False)
    await up.lists_now(entry("b"))
    await up.restart()
    await up.lists_now(entry("a", "Other."), entry("b"))
    assert up.pin("a") == ("changed", (), True)


async def test_what_was_removed_can_need_a_person_to_come_back(scene: Any) -> None:
    up = scene(removed="quarantine")
    await up.lists_now(entry("a"), entry("b"))
    await up.lists_now(entry("b"))
    await up.lists_now(entry("a"), entry("b"))
    assert up.pin("a") == ("returned", (), True)
    await up.restart()
    await up.refresh()
    assert up.pin("a") == ("returned", (), True)
    await up.accept("a")
    assert up.pin("a") == ("pinned", (), False)


async def test_a_tool_that_took_another_name_is_a_rename_and_never_accepted_by_itself(scene: Any) -> None:
    up = scene(added="accept")
    await up.lists_now(entry("a", "Unlike."), entry("b"))
    await up.lists_now(entry("a2", "Unlike.", title="New"), entry("b"), entry("c", "Fresh."))
    assert up.pin("a2") == ("new", ("renamed",), True)
    assert up.pin("c") == ("pinned", (), False) and up.row("c").accepted_by == BY_CONFIGURATION
    await up.restart()
    await up.refresh()
    assert up.pin("a2") == ("new", ("renamed",), True)
    # Also of one that was refused, or held.
    await up.reject("c")
    await up.lists_now(entry("a2", "Unlike."), entry("b"), entry("c2", "Fresh."))
    assert up.pin("c2") == ("new", ("renamed",), True)
    await up.accept("c2")
    assert "c2" in up.offered()


@pytest.mark.parametrize("added", ["accept", "quarantine"])
async def test_a_first_list_that_needs_a_person_is_not_accepted_by_the_second_look(
    scene: Any, added: str
) -> None:
    up = scene(first="quarantine", added=added)
    await up.lists_now(entry("a"))
    await up.refresh()
    await up.restart()
    await up.refresh()
    assert up.pin("a") == ("new", (), True)


async def test_a_change_can_be_only_flagged(scene: Any) -> None:
    up = scene(changed="flag")
    await up.lists_now(entry("a"), entry("b"))
    await up.lists_now(entry("a", "Other."), entry("b", "Hid\u200bden."))
    assert up.pin("a") == ("changed", (), False) and up.pin("b") == ("changed", ("suspicious",), True)


async def test_an_upstream_that_cannot_be_asked_has_removed_nothing(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("a"))

    async def down(upstream: str, kind: str) -> Any:
        raise InDoubt("upstream_lost", "gone")

    assert not await up.catalog.refresh("up", down)
    assert up.offered() == ["a"] and up.row("a").listed


# --------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "other",
    ["раy", "pаy", "ｐay", "𝗉𝖺𝗒", "PAY", "Pay", "pаү", "рау"],
)
async def test_a_name_that_looks_like_another_is_held_whichever_upstream_lists_it(
    scene: Any, other: str
) -> None:
    assert set(looks(other)) & set(looks("pay")), ascii(other)
    both = scene("up", "evil")
    await both.lists_now(entry("pay"))
    await both.lists_now(entry(other), entry("fine"), upstream="evil")
    assert both.pin(other, "evil") == ("new", ("shadowing",), True)
    assert both.offered() == ["pay", "fine"], "the one that was there first is not touched"
    await both.refresh()
    assert both.pin("pay")[2] is False


@pytest.mark.parametrize(
    ("one", "other"),
    [("list_1", "list_l"), ("form", "forrn"), ("O_o", "0_o"), ("m0", "M0"), ("Il", "ll"), ("a|b", "alb")],
)
def test_ascii_has_look_alikes_of_its_own(one: str, other: str) -> None:
    assert set(looks(one)) & set(looks(other))


@pytest.mark.parametrize(
    "name", ["pay", "send_mail", "read-file", "дать", "支払う", "get_user.v2", "tools/x"]
)
def test_a_name_looks_like_itself_and_not_like_others(name: str) -> None:
    assert set(looks(name)) & set(looks(name))
    assert not set(looks(name)) & set(looks("post"))


async def test_look_alikes_in_one_list_are_both_held(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("pay"), entry("раy"), entry("other"))
    assert up.offered() == ["other"]


@pytest.mark.parametrize(
    "name", ["wardgate_admin", "WardGate.keys", "mcp__bank__pay", "bank__pay", "bаnk__pay"]
)
async def test_reserved_names_and_names_of_other_upstreams_are_held(scene: Any, name: str) -> None:
    both = scene("up", "bank")
    await both.lists_now(entry(name), entry("up__x"))
    assert both.pin(name) == ("new", ("shadowing",), True)
    assert both.offered() == ["up__x"]


async def test_the_same_name_at_two_upstreams_is_flagged_and_held_where_that_is_asked_for(
    scene: Any, database: Database
) -> None:
    both = scene("up", "other")
    await both.lists_now(entry("search"))
    await both.lists_now(entry("search"), upstream="other")
    assert both.pin("search", "other") == ("pinned", ("same_name",), False)
    strict = Scene(database, "third", "up", same_name="quarantine")
    await strict.lists_now(entry("search"), upstream="third")
    assert strict.pin("search", "third") == ("new", ("same_name",), True)


async def test_a_name_that_was_accepted_is_guarded_while_its_upstream_is_away(scene: Any) -> None:
    both = scene("up", "evil")
    await both.lists_now(entry("pay"))
    await both.restart()  # and "up" is not reached this time
    await both.lists_now(entry("рay"), upstream="evil")
    assert both.pin("рay", "evil")[1:] == (("shadowing",), True)


# ------------------------------------------------------------------------------------------ concealed


@pytest.mark.parametrize(
    "text",
    [
        "a\u200bb", "a\u200c", "a\u2060b", "\ufeffx", "a\u00adb", "a\u202eb", "a\u2066b", "\u200ex",
        "\U000e0041", "\U000e0001", "x\ufe00", "x\U000e0100y", "\ue000", "\U000f0000", "\x1b[31mred",
        "\x08", "\x7f", "\x9b31m", "\u3164", "\u115f", "\u034f", "\u2800", "a\u2028b",
        "👍\U000e0062\U000e007f", "x\ufe0f", "\u200d👍",
        "<!-- psst -->", '<p style="display: none">x</p>', "<span hidden>x</span>", "font-size:0px;",
        "opacity: 0;", "[//]: # (psst)", "[comment]: <psst>", "x" + " " * 300 + "y", "x" + "\n" * 60 + "y",
        "x" * (MAX_TEXT + 1),
    ],
)  # fmt: skip
async def test_hidden_text_anywhere_in_a_definition_is_held_from_the_first_contact(
    scene: Any, text: str
) -> None:
    up = scene()
    await up.lists_now(
        entry("in_description", text),
        entry("in_title", title=text),
        entry("in_schema", inputSchema={"type": "object", "properties": {"x": {"enum": ["y", text]}}}),
        entry("in_a_key", inputSchema={"type": "object", "properties": {text: {"type": "string"}}}),
        entry("in_annotations", annotations={"title": text}),
        entry("plain"),
        prompt=[{"name": "p", "arguments": [{"name": "x", "description": text}]}],
        resource=[{"uri": "r://1", "name": text}, {"uri": "r://2", "name": "plain"}],
    )
    assert up.offered() == ["plain"]
    assert {tool.pin.flags for tool in up.catalog.held()} == {("suspicious",)}
    assert not up.catalog.tools("prompt") and [t.name for t in up.catalog.tools("resource")] == ["r://2"]
    found = findings(entry("x", text))
    assert found and all(line.isascii() for line in found)


@pytest.mark.parametrize(
    "text",
    [
        "Plain.", "Zwei\nZeilen\tund mehr.", "⚠️ Careful", "👩‍💻 codes", "👍🏽 ok", "1️⃣ first", "می‌خواهم", "क्‍ष",
        "日本語の説明", "naïve café", "a < b && c > d", "Use <b>bold</b> or <details>", "ℹ️ note",
        "x" * MAX_TEXT, "display the style of a hidden file", "opacity", "--------" * 30, "🏳️‍🌈",
    ],
)  # fmt: skip
def test_text_that_only_looks_unusual_is_not_suspected(text: str) -> None:
    definition = entry("x", text)
    assert findings(definition) == [] and not conceals(json.dumps(definition, ensure_ascii=False).encode())


@given(
    st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
)
def test_the_quick_look_never_misses_what_the_thorough_one_finds(value: Any) -> None:
    definition = {"description": value}
    try:
        encoded = orjson.dumps(definition)
    except TypeError:
        return  # lone surrogates are refused before
    assert conceals(encoded) == bool(findings(definition))


async def test_suspicion_can_be_only_flagged_and_what_was_accepted_is_offered(
    scene: Any, database: Database
) -> None:
    up = scene(suspicious="flag")
    await up.lists_now(entry("a", "x\u200by"))
    assert up.pin("a") == ("pinned", ("suspicious",), False)
    other = Scene(database, "second")
    await other.lists_now(entry("b", "x\u200by"), upstream="second")
    assert other.offered() == []
    await other.accept("b", "second")
    await other.refresh("second")
    assert other.pin("b", "second") == ("pinned", ("suspicious",), False)


# --------------------------------------------------------------------------------------------- hash

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = (
    "title",
    "description",
    "inputSchema",
    "outputSchema",
    "annotations",
    "icons",
    "_meta",
    "execution",
)
DEFINITION = st.fixed_dictionaries({"name": TEXT}, optional=dict.fromkeys(MEMBERS, JSON))


@given(DEFINITION, st.sampled_from(("name", *MEMBERS, "a member nobody knows yet")), JSON)
def test_any_change_of_any_member_changes_the_hash(before: dict[str, Any], member: str, value: Any) -> None:
    after = {**before, member: value}
    # In JSON 1 and true differ, which Python calls equal.
    same = json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert (schema_hash(before) == schema_hash(after)) is same


@given(DEFINITION, st.randoms())
def test_the_order_of_members_does_not(definition: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            pairs = list(value.items())
            random.shuffle(pairs)
            return {key: shuffled(inner) for key, inner in pairs}
        return [shuffled(inner) for inner in value] if isinstance(value, list) else value

    assert schema_hash(definition) == schema_hash(shuffled(definition))


def test_what_a_resource_says_of_its_data_does_not_count() -> None:
    resource = {"uri": "a://b", "name": "b", "annotations": {"audience": ["user"]}}
    same = {
        **resource,
        "size": 7,
        "annotations": {"audience": ["user"], "lastModified": "2026-01-01T00:00:00Z"},
    }
    assert schema_hash(resource, "resource") == schema_hash(same, "resource")
    assert schema_hash(resource, "tool") != schema_hash(same, "tool")
    assert schema_hash(resource, "resource") != schema_hash({**resource, "mimeType": "text/html"}, "resource")
    assert schema_hash(resource, "resource") != schema_hash({**resource, "uri": "a://c"}, "resource")


# ----------------------------------------------------------------------------------------- resources


async def test_listed_resources_come_and_go_and_are_pinned_only_where_that_is_asked_for(
    scene: Any, database: Database
) -> None:
    up = scene()
    await up.lists_now(resource=[{"uri": "r://1", "name": "1"}])
    await up.lists_now(resource=[{"uri": "r://1", "name": "other"}, {"uri": "r://2", "name": "2"}])
    assert [tool.name for tool in up.catalog.tools("resource")] == ["r://1", "r://2"]
    assert not up.stored.load()[1]
    strict = Scene(database, "second", resources=True)
    await strict.lists_now(resource=[{"uri": "r://1", "name": "1"}], upstream="second")
    await strict.lists_now(resource=[{"uri": "r://1", "name": "other"}], upstream="second")
    assert strict.pin("r://1", "second", "resource") == ("changed", (), True)


async def test_a_resource_of_a_held_template_is_held_and_so_is_its_completion(scene: Any) -> None:
    up = scene()
    template = {"uriTemplate": "r://{id}", "name": "t"}
    await up.lists_now(template=[template], resource=[])
    assert up.pin("r://7", kind="resource") == ("pinned", (), False)
    await up.lists_now(template=[{**template, "description": "Other."}], resource=[])
    assert up.pin("r://7", kind="resource") == ("changed", (), True)
    assert up.pin("r://{id}", kind="completion") == ("changed", (), True)


# ------------------------------------------------------------------------------------------- storage


async def test_an_unchanged_list_is_not_written_again_and_a_flapping_one_seldom(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("a"))
    for _ in range(20):
        await up.refresh()
    assert up.stored.saves == 1
    for turn in range(200):  # one second each, as the refresher allows
        up.clock.now += 1
        await up.lists_now(entry("a", f"Number {turn}."), entry(f"made up {turn}"))
        assert up.offered() == []
    assert up.stored.saves <= 200 / SAVE_GAP_S + SAVE_BURST + 1
    assert up.catalog.unsaved("up")
    up.clock.now += SAVE_GAP_S * SAVE_BURST
    await up.refresh()
    assert not up.catalog.unsaved("up")
    _, rows = up.stored.load()
    assert {row.name for row in rows} == {"a", "made up 199"}, (
        "what nobody accepted is not kept when it is gone"
    )
    assert up.row("a").listed_hash == up.catalog.resolve("tool", "up", "a").schema_hash


async def test_what_cannot_be_stored_is_not_accepted_and_is_tried_again(scene: Any) -> None:
    up = scene()
    up.stored.broken = True
    await up.lists_now(entry("a"))
    assert up.offered() == [] and up.pin("a") == ("new", (), True)
    assert up.catalog.unsaved("up"), "so the next look is not far off"
    up.stored.broken = False
    await up.refresh()
    assert up.offered() == ["a"] and not up.catalog.unsaved("up")
    up.stored.broken = True
    await up.lists_now(entry("a", "Other."))
    assert up.offered() == [], "a change is held whether or not it can be stored"
    await up.lists_now(entry("a"))
    assert up.offered() == ["a"] and not up.catalog.unsaved("up")


async def test_what_a_person_said_survives_what_the_gateway_writes(scene: Any) -> None:
    up = scene(added="accept")
    await up.lists_now(entry("a"), entry("b"))
    assert up.stored.pins.reject(up.row("b"), "ada")  # and the gateway has not read it yet
    await up.lists_now(entry("a"), entry("b"), entry("c"))
    assert up.row("b").rejected_by == "ada"
    await up.catalog.judge_again()
    assert up.offered() == ["a", "c"]
    await up.lists_now(entry("a"), entry("b", "Other."), entry("c"))
    assert up.pin("b")[2], "another definition of what was refused is not accepted by itself"


async def test_made_up_names_do_not_fill_the_disk(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinning, "MAX_PINS", 10)
    assert MAX_PINS > 20_000
    up = scene(added="accept")
    await up.lists_now(entry("a"))
    for turn in range(5):
        await up.lists_now(*(entry(f"t{turn}.{number}", f"{turn} {number}") for number in range(4)))
    assert len(up.stored.load()[1]) <= 10
    assert up.pin("t4.3") == ("new", (), True) and ("up", "overflow") in up.events


async def test_everything_that_happens_is_told_in_words_that_metrics_know(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("a"), entry("b"))
    await up.lists_now(entry("a", "Other."), entry("c", "x\u200by"), entry("раy"), entry("pay"))
    await up.lists_now(entry("a", "Other."), entry("b"))
    await up.accept("a")
    await up.reject("b")
    said = {event for _, event in up.events}
    assert said == set(EVENTS) - {"restored", "overflow"}, "the others have tests of their own"
    assert EVENTS == specs.PIN_EVENT_NAMES


def test_every_flag_has_its_word_in_the_configuration() -> None:
    assert set(FLAGS) - {"renamed"} <= set(PinsConfig.model_fields)


class Life(RuleBasedStateMachine):
    """Whatever an upstream lists, in whatever order: what is offered was accepted."""

    NAMES = ("a", "b", "c")
    TEXTS = ("1.", "2.", "3.")

    @initialize(first=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TEXTS), min_size=1))
    def begin(self, first: dict[str, str]) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.database = at(Path(self.folder.name) / "wardgate.db").open()
        self.scene = Scene(self.database)
        self.accepted = dict(first)
        self.now = first
        self.run(self.scene.lists_now(*(entry(name, text) for name, text in first.items())))

    def run(self, work: Any) -> None:
        self.loop.run_until_complete(work)

    @rule(lists=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TEXTS)))
    def lists(self, lists: dict[str, str]) -> None:
        self.now = lists
        self.scene.clock.now += 60
        self.run(self.scene.lists_now(*(entry(name, text) for name, text in lists.items())))

    @rule()
    def restart(self) -> None:
        self.run(self.scene.restart())
        self.run(self.scene.refresh())

    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        if self.now:
            name = data.draw(st.sampled_from(sorted(self.now)))
            self.run(self.scene.accept(name))
            self.accepted[name] = self.now[name]

    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        if self.now:
            name = data.draw(st.sampled_from(sorted(self.now)))
            self.run(self.scene.reject(name))
            if self.accepted.get(name) == self.now[name]:
                del self.accepted[name]  # of another definition nothing was said

    @invariant()
    def only_what_was_accepted_is_offered(self) -> None:
        if hasattr(self, "now"):
            offered = set(self.scene.offered())
            assert offered <= {name for name, text in self.now.items() if self.accepted.get(name) == text}

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()
            self.loop.close()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=25,
    stateful_step_count=12,
    deadline=None,
    phases=(
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ),  # each step commits to a disk: shrinking takes minutes
)


# --------------------------------------------------------------------------------------------- cost


async def test_10_000_tools_are_compared_within_a_bound_and_resolved_as_fast_as_ever(scene: Any) -> None:
    up = scene()
    tools = [
        entry(f"tool_{number}", f"Does the thing number {number}, carefully and with every detail. " * 5)
        for number in range(10_000)
    ]
    await up.lists_now(*tools)
    assert len(up.offered()) == 10_000
    before = time.process_time()
    await up.refresh()
    assert time.process_time() - before < 5
    changed = [entry("tool_0", "Other."), *tools[1:]]
    before = time.process_time()
    await up.lists_now(*changed)
    assert time.process_time() - before < 5
    assert len(up.offered()) == 9_999 and up.stored.saves == 2

    small = scene("small")
    await small.lists_now(entry("tool_7"), upstream="small")

    def cost(catalog: ToolCatalog, upstream: str) -> float:
        best = 1.0
        for _ in range(20):
            since = time.process_time()
            for _ in range(1000):
                catalog.resolve("tool", upstream, "tool_7")
            best = min(best, time.process_time() - since)
        return best

    assert cost(up.catalog, "up") < 2 * cost(small.catalog, "small")


async def test_8_000_look_alikes_are_no_more_work_than_others(scene: Any) -> None:
    """A list made to have everything compared with everything."""
    letters = ("a", "а")
    names = ["".join(letters[number >> bit & 1] for bit in range(13)) for number in range(8000)]
    up = scene()
    before = time.process_time()
    await up.lists_now(*map(entry, names))
    assert time.process_time() - before < 8
    assert up.offered() == []


def test_judging_is_a_function_of_row_and_configuration() -> None:
    row = PinRow(
        upstream="u", kind="tool", name="n", listed_hash="h", accepted_hash="h", flags=("suspicious",)
    )
    assert not judged(row, PinsConfig()).quarantined, "what was accepted is not held for its flags"
    other = PinRow(upstream="u", kind="tool", name="n", listed_hash="i", accepted_hash="h")
    assert judged(other, PinsConfig()).quarantined
    assert not judged(other, PinsConfig(changed="flag")).quarantined


def test_every_character_of_the_table_looks_like_what_it_passes_for() -> None:
    table = Path(pinning.__file__).with_name("confusables.txt").read_text()
    checked = 0
    for line in table.splitlines():
        if not line.startswith("#"):
            prototype, sources = ([chr(int(p, 16)) for p in part.split()] for part in line.split(";"))
            for source in sources:
                checked += 1
                shown = "".join(prototype)
                assert set(looks(f"a{source}b")) & set(looks(f"a{shown}b")), (ascii(source), shown)
    assert checked > 800


async def test_what_was_rejected_does_not_come_back_by_rejecting_another(scene: Any) -> None:
    up = scene()
    await up.lists_now(entry("a", "1."))
    await up.reject("a")
    await up.lists_now(entry("a", "2."))
    await up.reject("a")
    await up.lists_now(entry("a", "1."))
    assert up.offered() == []
