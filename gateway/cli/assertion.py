"""``wardgate assertion``: the keys that sign assertions. A running gateway notices changes within seconds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.keys import duration
from gateway.cli.output import (
    DEFAULT_CONFIG,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from gateway.upstreams.secrets.signing_keys import SigningKey

app = typer.Typer(
    help="Make, rotate, revoke and publish the keys that sign assertions.", no_args_is_help=True
)

_LONGEST_LIFE_S: Final = 60


@app.command()
def new(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Make the first signing key, in the file that assertion.key_file names."""
    from gateway.upstreams.secrets import signing_keys

    path = _path(config)
    if path.exists():
        fail(f"{path} is there already.", "Use 'wardgate assertion rotate' to add a key.")
    made = signing_keys.new(int(time.time()))
    _save(path, [made])
    _told(made, f"Made {path}. Keep it private; upstreams need 'wardgate assertion jwks'.", as_json)


@app.command()
def rotate(
    lead: Annotated[str, typer.Option(help="How long the new key is published before it signs.")] = "1h",
    keep: Annotated[str, typer.Option(help="How long the old keys stay published after that.")] = "1h",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Add a key and end the others. Upstreams that cached the keys for less than --lead notice nothing."""
    from gateway.upstreams.secrets import signing_keys

    path, keys = _loaded(config)
    # What an old key has signed stays valid for a minute; it must be possible to verify it that long.
    keep_s = max(int(duration(keep)), _LONGEST_LIFE_S)
    changed = signing_keys.rotated(keys, int(time.time()), int(duration(lead)), keep_s)
    if len(changed) > signing_keys.MAX_KEYS:
        fail(f"There are {len(keys)} keys already.", "Wait until some have ended, or revoke one.")
    _save(path, changed)
    _told(changed[-1], f"Key {changed[-1].kid} signs from {_local(changed[-1].nbf)}.", as_json)


@app.command()
def revoke(
    kid: Annotated[str, typer.Argument(help="Id of the key; see 'wardgate assertion list'.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Take a key back at once. When no other may sign now, a new one does."""
    from gateway.upstreams.secrets import signing_keys

    path, keys = _loaded(config)
    left = [key for key in keys if key.kid != kid]
    if len(left) == len(keys):
        fail(f"There is no key '{kid}'.", "See 'wardgate assertion list'.", NOT_FOUND)
    now = int(time.time())
    if signing_keys.signing(left, now) is None:
        left.append(signing_keys.new(now))
        note(f"Key {left[-1].kid} signs from now on; upstreams verify it when they read the key set again.")
    _save(path, left)
    if as_json:
        print_json({"kid": kid, "state": "revoked"})
    else:
        say(f"{kid} is revoked. Upstreams accept it until they read the key set again.")


@app.command("list")
def list_keys(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the signing keys, without their private halves."""
    from gateway.upstreams.secrets import signing_keys

    _, keys = _loaded(config)
    now = time.time()
    current = signing_keys.signing(keys, now)
    shown = [_described(key, current, now) for key in keys]
    if as_json:
        print_json(shown)
        return
    rows = [
        [one["kid"], one["state"], one["signs_from"], one["published_until"] or "no end"] for one in shown
    ]
    print_table("", ["kid", "state", "signs from", "published until"], rows)


@app.command()
def jwks(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Print the public keys as a JSON Web Key Set, as the admin port publishes it."""
    from gateway.upstreams.secrets import signing_keys

    _, keys = _loaded(config)
    print_json(signing_keys.jwks(keys, time.time()))


def _path(config: Path) -> Path:
    from gateway.cli.opened import configuration

    path = configuration(config).assertion.key_file
    if path is None:
        fail(
            f"{config} names no file for signing keys.",
            "Add it: assertion: {key_file: assertion-keys.json}",
            NOT_FOUND,
        )
    return path


def _loaded(config: Path) -> tuple[Path, list[SigningKey]]:
    from gateway.upstreams.secrets import signing_keys

    path = _path(config)
    return path, signing_keys.load(path)


def _save(path: Path, keys: list[SigningKey]) -> None:
    from gateway.upstreams.secrets import signing_keys

    try:
        signing_keys.save(path, keys)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}.", "Check the folder and who owns it.")


def _described(key: SigningKey, current: SigningKey | None, now_s: float) -> dict[str, Any]:
    state = key.state(now_s)
    if state == "signs" and key != current:
        state = "published"
    return {
        "kid": key.kid,
        "state": "signs" if key == current else state,
        "signs_from": _local(key.nbf),
        "published_until": _local(key.exp) if key.exp is not None else None,
    }


def _local(seconds: int) -> str:
    from gateway.cli.times import local

    return local(seconds * 1_000_000_000)


def _told(key: SigningKey, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"kid": key.kid, "signs_from": _local(key.nbf)})
    else:
        say(sentence)
