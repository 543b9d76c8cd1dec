"""The pages: each has a twin, a place in the menu leads somewhere, and what is vendored is what npm has."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tarfile
import time
from hashlib import sha256, sha512
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.surfaces.console import inert, tree
from gateway.surfaces.console.views import ACTS, PAGES
from tests.console.conftest import CALL, Browser, text_of
from tests.requires import requires

STATIC = files("gateway.surfaces.console").joinpath("static")
LISTED = [
    page for page in PAGES if "{" not in page.path and page.path not in ("/tool", "/policy", "/queue/result")
]


@pytest.mark.parametrize("page", LISTED, ids=lambda page: page.path)
async def test_a_page_and_its_twin_come_from_the_same_view(house, page):
    house.opens()
    browser = await Browser(house).sign_in("olga")
    html = await browser.page(page.path)
    assert html.count("<h1") == 1 and f'href="/console{page.path}.json' in html
    twin = await browser.get(f"{page.path}.json")
    assert twin.status_code == 200 and isinstance(twin.json(), dict)
    assert "application/json" in twin.headers["content-type"]


@pytest.mark.parametrize(
    "path", [f"/decisions/{CALL}", "/policy?id=test.all", "/queue/result?done=1&what=approve"]
)
async def test_pages_of_one_thing_have_a_twin_too(house, path):
    browser = await Browser(house).sign_in("olga")
    assert "<h1" in await browser.page(path)
    before, _, query = path.partition("?")
    assert (await browser.get(f"{before}.json?{query}")).status_code == 200


@pytest.mark.parametrize(
    "path", ["/approvals/nothing", "/decisions/nothing", "/agents/nobody", "/trips/t", "/tool?target=x/y",
             "/policy?id=none", "/nothing", "/static/none.js", "/queue/"],
)  # fmt: skip
async def test_what_is_not_there_is_said_in_both_forms(house, path):
    browser = await Browser(house).sign_in("ann")
    answer = await browser.get(path)
    assert answer.status_code == 404 and "not_found" in answer.text


@pytest.mark.parametrize("who", ["vic", "pat"])
async def test_who_may_not_see_arguments_does_not_read_them_in_an_explanation(house, who):
    browser = await Browser(house).sign_in(who)
    for path in (f"/decisions/{CALL}?explain=1", f"/decisions/{CALL}.json?explain=1"):
        answer = await browser.get(path)
        assert answer.status_code == 403 and "wrong_role" in answer.text
    assert "Explain with" not in await browser.page(f"/decisions/{CALL}")
    ann = await Browser(house).sign_in("ann")
    assert "Explain with" in await ann.page(f"/decisions/{CALL}")
    assert (await ann.get(f"/decisions/{CALL}?explain=1")).status_code == 200


async def test_every_act_names_a_page_to_go_back_to_and_none_takes_get(house):
    browser = await Browser(house).sign_in("olga")
    for act in ACTS:
        assert act.back in PAGES
        answer = await browser.get(act.path.replace("{id}", "x"))
        assert answer.status_code in (200, 404, 405), act.path  # a page of the same path, or nothing


async def test_the_queue_narrows_orders_and_pages(house):
    browser = await Browser(house).sign_in("ann")
    made = [house.opens(agent="pager", target=f"bank/p{n % 3}", risk="read") for n in range(120)]

    async def ids(query):
        found = (await browser.get(f"/queue.json?{query}")).json()
        return [each["id"] for each in found["items"]], found

    first, found = await ids("agent=pager")
    assert first == [each.id for each in made[:50]] and found["total"] == 120
    second, found = await ids(found["next_query"])
    third, found = await ids(found["next_query"])
    assert [*first, *second, *third] == [each.id for each in made] and found["cursor"] is None
    newest, _ = await ids("agent=pager&order=newest")
    assert newest[0] == made[-1].id
    assert len((await ids("agent=pager&tool=bank/p1"))[0]) == 40
    assert (await ids("q=pager&risk=irreversible"))[0] == []
    assert len((await ids(f"q={quote('PAGE')}"))[0]) == 50
    assert (await ids(f"q={quote('%')}"))[0] == []  # no wildcard of the database
    assert (await ids("agent=pager&state=rejected"))[0] == []
    page = text_of(await browser.page("/queue?agent=pager&q=p1"))
    assert "40 calls wait for a decision" in page and "Clear" in page


async def test_a_part_is_fetched_without_the_frame(house):
    browser = await Browser(house).sign_in("ann")
    part = (await browser.get("/queue?agent=pager", **{"hx-request": "true"})).text
    assert "<html" not in part and "bank/p1" in part
    stranger = await Browser(house).get("/queue", **{"hx-request": "true"})
    assert stranger.status_code == 401 and stranger.headers["hx-refresh"] == "true"


async def test_stopping_everything_takes_a_word_more(house):
    browser = await Browser(house).sign_in("olga")
    said = {"scope": "tenant", "name": "", "reason": "drill"}
    answer = await browser.post("/kill", said)
    assert answer.status_code == 422 and not house.breakers.done
    assert (await browser.post("/kill", {**said, "sure": "stop"})).status_code == 303
    assert (await browser.post("/kill", {"scope": "agent", "name": "bot", "reason": ""})).status_code == 422
    assert house.breakers.done == [("kill", "tenant", "default", "", "drill", "olga")]
    ann = await Browser(house).sign_in("ann")
    answer = await ann.post("/kill", {"scope": "agent", "name": "bot", "reason": "x"})
    assert answer.status_code == 403 and len(house.breakers.done) == 1


async def test_glass_is_broken_by_two_people(house):
    now = time.time_ns()
    opening = {
        "id": "o1", "name": "night", "state": "asked", "reason": "pager <4711>", "minutes": 10,
        "asked_by": "ann", "asked": now, "second_by": now + 10**12, "seconded_by": None, "opened": None,
        "expires": None, "closed": None, "closed_by": None, "uses": 0, "max_uses": 5,
    }  # fmt: skip
    house.glass.opening = opening
    ann, bob = await Browser(house).sign_in("ann"), await Browser(house).sign_in("bob")
    assert "openings/o1/second" not in await ann.page("/envelopes")  # not by the one who asked
    page = await bob.page("/envelopes")
    assert "openings/o1/second" in page and "pager &lt;4711&gt;" in page
    assert (await bob.post("/openings/o1/second")).status_code == 303
    said = {"reason": "pager", "minutes": "61"}
    assert (await ann.post("/envelopes/night/ask", said)).status_code == 422
    assert (await ann.post("/envelopes/night/ask", {**said, "minutes": "10"})).status_code == 303
    vic = await Browser(house).sign_in("vic")
    assert (await vic.post("/openings/o1/second")).status_code == 403
    assert house.glass.done == [("second", "bob", "o1"), ("ask", "ann", "night", "pager", 10)]


async def test_a_file_may_be_kept_for_good_because_its_name_is_its_content(house):
    page = (await Browser(house).get("/login")).text
    (url,) = re.findall(r"/console(/static/console\.[0-9a-f]{12}\.css)", page)
    answer = await Browser(house).get(url)
    assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    assert sha256(answer.content).hexdigest()[:12] in url


def test_what_is_vendored_is_what_the_manifest_says():
    manifest = json.loads(STATIC.joinpath("vendored.json").read_text())
    assert manifest["integrity"].startswith("sha512-") and re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    for name, said in manifest["files"].items():
        assert sha256(STATIC.joinpath(name).read_bytes()).hexdigest() == said["sha256"], name
    ours = {"console.js", "console.css", "mark.svg", "vendored.json"}
    assert {each.name for each in STATIC.iterdir()} == ours | set(manifest["files"])


def test_no_page_needs_what_the_policy_for_content_forbids():
    for template in files("gateway.surfaces.console").joinpath("templates").iterdir():
        text = template.read_text()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|<script(?![^>]*\ssrc=)|\|\s*safe\b|hx-on", text), (
            template
        )


def test_every_page_and_act_is_in_the_reference():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "console.md").read_text()
    for each in (*PAGES, *ACTS):
        assert f"`{each.path}`" in text, each.path


@requires("npm")
def test_what_is_vendored_is_what_npm_has(tmp_path):
    manifest = json.loads(STATIC.joinpath("vendored.json").read_text())
    name = f"{manifest['package']}@{manifest['version']}"
    command = ["npm", "pack", name, "--silent", "--pack-destination", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    (tarball,) = tmp_path.glob("*.tgz")
    content = tarball.read_bytes()
    assert "sha512-" + base64.b64encode(sha512(content).digest()).decode() == manifest["integrity"]
    with tarfile.open(tarball) as archive:
        for file, said in manifest["files"].items():
            packed = archive.extractfile(f"package/{said['from']}")
            assert packed is not None and packed.read() == STATIC.joinpath(file).read_bytes(), file


# ------------------------------------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("plain text", []),
        ("tab\there", ["TAB"]),
        ("two\nlines", []),
        ("\u202eevil", ["U+202E"]),
        ("a\u200bb\ufeff", ["U+200B", "U+FEFF"]),
        ("\x1b[31m\x00", ["ESC", "NUL"]),
        ("a\u00a0b\u3000c", ["NBSP", "U+3000"]),
        ("\U000e0041\ufe0f", ["U+E0041", "U+FE0F"]),
        ("\u2800\u3164\u115f", ["U+2800", "U+3164", "U+115F"]),
        ("Grüße, 日本語, Привет", []),
    ],
)
def test_what_cannot_be_seen_is_named(text, named):
    assert [piece.text for piece in inert.pieces(text) if piece.name] == named


def test_look_alikes_are_told_and_honest_words_of_any_alphabet_are_not():
    assert inert.warnings("pаypal") == ["words that mix alphabets which look alike"]  # a Cyrillic а
    assert inert.warnings("Привет мир, καλημέρα, naïve Straße") == []
    assert inert.warnings("x" + " " * 200 + "y") == ["white space that pushes text out of sight"]


def test_a_tree_says_what_differs():
    now = {"to": "a", "amount": 2, "deep": {"x": [1, 2], "same": 1}, "new": None}
    then = {"to": "b", "amount": 2.0, "deep": {"x": [1], "same": 1}, "old": {"y": 1}}
    found = {row.pointer: row.change for row in tree.rows(now, then)}
    assert found == {
        "/to": "changed", "/amount": "changed", "/deep": "", "/deep/x": "", "/deep/x/0": "",
        "/deep/x/1": "added", "/deep/same": "", "/new": "added", "/old": "removed",
    }  # fmt: skip
    assert tree.differences(now, now) == 0
    assert tree.rows({"a/b~c": 1})[0].pointer == "/a~1b~0c"


def test_what_differs_beyond_what_is_shown_is_counted_too():
    now = {"to": [f"r{n}@x" for n in range(700)], "amount": 1}
    assert tree.differences(now, {"to": [*now["to"][:-1], "evil@x"], "amount": 9999}) == 2
    assert tree.differences(now, now) == 0


def test_a_tree_of_any_size_is_bounded():
    found = tree.rows({str(n): n for n in range(5000)})
    assert len(found) == tree.MAX_ROWS + 1
    deep: dict = {}
    for _ in range(60):
        deep = {"d": deep}
    assert len(tree.rows(deep)) <= 61
