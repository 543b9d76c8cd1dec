"""Two calls have the same digest exactly when they are the same call."""

from __future__ import annotations

import uuid

import pytest
from msgspec.structs import replace

from gateway import strictjson
from gateway.digest import call_digest, effect_key, new_id
from gateway.model import Manifest, Principal, Tool

ALICE = Principal(tenant="t", agent="a", owner="o", credential="c", subject="s", chain=("root",))
TOOL = Tool(kind="tool", upstream="u", name="n", target="u/n", manifest=Manifest(), schema_hash="h")


def digest(principal=ALICE, session="s1", tool=TOOL, args=None):
    return call_digest(principal, session, tool, strictjson.canonical(args or {"x": 1}))


def test_the_same_call_has_the_same_digest():
    assert digest(args={"a": 1, "b": 2}) == digest(args={"b": 2, "a": 1})


@pytest.mark.parametrize(
    "other",
    [
        {"principal": replace(ALICE, tenant="x")},
        {"principal": replace(ALICE, agent="x")},
        {"principal": replace(ALICE, subject=None)},
        {"principal": replace(ALICE, chain=())},
        {"session": "s2"},
        {"tool": replace(TOOL, target="u/x")},
        {"tool": replace(TOOL, schema_hash="x")},
        {"args": {"x": 2}},
        {"args": {"x": "1"}},
    ],
)
def test_any_difference_that_matters_changes_the_digest(other):
    assert digest(**other) != digest()


def test_a_rotated_credential_does_not_change_the_digest():
    assert digest(principal=replace(ALICE, credential="other")) == digest()


def test_ids_are_uuid7_and_sort_by_time():
    ids = [new_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert {uuid.UUID(i).version for i in ids} == {7}
    assert {uuid.UUID(i).variant for i in ids} == {uuid.RFC_4122}
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


def test_an_effect_key_is_the_call_id_unless_the_manifest_names_one():
    assert effect_key(None, "id", {}) == "id"
    assert effect_key("refund:{payment_id}", "id", {"payment_id": "p1"}) == "refund:p1"
    assert effect_key("n:{n}", "id", {"n": 7}) == "n:7"


def test_an_effect_key_reaches_into_objects_and_takes_no_second_meaning():
    assert effect_key("p:{body.ref}", "id", {"body": {"ref": "r1"}}) == "p:r1"
    assert effect_key("p:{a.b.c}-{d}", "id", {"a": {"b": {"c": 1}}, "d": "x"}) == "p:1-x"
    assert effect_key("p:{path.id}", "id", {"path.id": "7"}) == "p:7"
    assert effect_key("p:{body.ref}", "id", {"body": {"ref": "r1"}, "body.ref": "r2"}) is None
    for args in ({"body": {}}, {"body": "r"}, {"body": {"ref": {}}}, {"body": ["r"]}, {"body": {"ref": 1.5}}):
        assert effect_key("p:{body.ref}", "id", args) is None, args


@pytest.mark.parametrize(
    "template", ["{a.__class__}", "{a[0]}", "{0}", "{}", "{a!x}", "{a", "{a:{b}}", "{a:q}"]
)
def test_a_template_reaches_nothing_but_arguments(template):
    assert effect_key(template, "id", {"a": "x"}) is None


@pytest.mark.parametrize("args", [{}, {"payment_id": None}, {"payment_id": ["p"]}, {"payment_id": True}])
def test_an_effect_key_that_cannot_be_filled_is_none(args):
    assert effect_key("refund:{payment_id}", "id", args) is None
