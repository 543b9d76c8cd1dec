"""What became of a call in doubt, by a read: it was done, it was not, or nobody can say.

The words are those of ``verify.py``; but a call in doubt has no result, so templates are of its arguments
alone, and two things are looked for: what the read returns when the call had its effect, and what it returns
when it had not. Where both hold, or neither, nothing is known. Pure, like ``verify.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gateway.model import Json, Reconcile, Verify
from gateway.sessions import verify
from gateway.sessions.verify import BadVerify

Found = Literal["done", "not_done", "unknown"]

_BOUNDS: Final = (("late_s", 0, 86_400), ("every_s", 1, 3_600), ("attempts", 1, 100))


def parse(raw: Mapping[str, Json]) -> Reconcile:
    """A checked ``Reconcile``; ``BadVerify`` for anything else."""
    try:
        made = msgspec.convert(raw, Reconcile, strict=True)
    except msgspec.ValidationError as error:
        raise BadVerify(str(error)) from error
    if unknown := set(raw) - set(Reconcile.__struct_fields__):
        raise BadVerify(f"unknown: {', '.join(sorted(map(repr, unknown)))}")
    if not made.done:
        raise BadVerify("'done' says what the read returns when the call had its effect")
    for name, low, high in _BOUNDS:
        if not low <= getattr(made, name) <= high:
            raise BadVerify(f"'{name}' must be from {low} to {high}")
    for name, wanted in (("done", made.done), ("not_done", made.not_done)):
        if not wanted:
            continue
        try:
            verify.parse({"tool": made.tool, "arguments": made.arguments, "match": wanted})
        except BadVerify as bad:
            raise BadVerify(f"{name}: {bad}") from bad
        if verify.of_results(_read(made, wanted)):
            raise BadVerify(f"{name}: a call in doubt has no result, so there is no {{result.…}} to take")
    if made.done == made.not_done:
        raise BadVerify("'done' and 'not_done' are the same, so nothing could be told")
    return made


def filled(reconcile: Reconcile, arguments: Mapping[str, Json]) -> Reconcile:
    """For one call, without templates; ``verify.Unfillable`` says which one has no value."""
    done = verify.fill(_read(reconcile, reconcile.done), arguments, b"")
    not_done = verify.fill(_read(reconcile, reconcile.not_done), arguments, b"")
    return msgspec.structs.replace(
        reconcile, arguments=done.arguments, done=done.match, not_done=not_done.match
    )


def judged(reconcile: Reconcile, result_json: bytes) -> Found:
    """What a read says; ``reconcile`` is ``filled``."""
    done = verify.matches(_read(reconcile, reconcile.done), result_json)
    # No condition at all holds of everything, and says nothing.
    wanted = reconcile.not_done
    not_done = verify.matches(_read(reconcile, wanted), result_json) if wanted else False
    if done is None or not_done is None or done == not_done:
        return "unknown"
    return "done" if done else "not_done"


def _read(reconcile: Reconcile, match: Mapping[str, Json]) -> Verify:
    return Verify(tool=reconcile.tool, arguments=reconcile.arguments, match=match)
