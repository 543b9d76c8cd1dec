"""The tool hook of Claude Code and of what follows its contract, on wardgate's decision point.

Before a tool runs, one JSON object comes on stdin and is asked about at ``/v1/decide``; after it ran, another
one is reported to ``/v1/settle``. Client and gateway share nothing but the id of the tool use.

Only the standard library, because this starts anew for every tool use and is waited for. And every way out
that is not an answer ends with code 2, because with any other the client runs the tool all the same.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BLOCK: Final = 2  # the only code that stops a tool
SHOWN: Final = 1  # shown to the user, and nothing else happens

MAX_ANSWER: Final = 16 * 1024 * 1024
LARGE: Final = 64 * 1024  # bytes of a result that may be why the gateway hung up


class Settings(NamedTuple):
    """Where to ask, as whom, and how an answer is passed on."""

    url: str = "http://127.0.0.1:8700"
    key: str = ""
    upstream: str = "claude-code"
    timeout_s: float = 10.0
    grant: bool = False  # an allow also skips the client's own permission prompt

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Settings:
        """From the environment; raises ``Stop`` for what makes no sense."""
        text = environ.get("WARDGATE_HOOK_TIMEOUT_S", "10")
        try:
            timeout_s = float(text)
        except ValueError:
            raise Stop(f"WARDGATE_HOOK_TIMEOUT_S is '{text}', which is no number of seconds") from None
        return cls(
            url=environ.get("WARDGATE_HOOK_URL", "http://127.0.0.1:8700"),
            key=environ.get("WARDGATE_KEY", "").strip(),
            upstream=environ.get("WARDGATE_HOOK_UPSTREAM", "claude-code"),
            timeout_s=timeout_s,
            grant=environ.get("WARDGATE_HOOK_GRANT", "") == "1",
        )


class Stop(Exception):
    """There is no answer, so the tool does not run. The message is shown to the model and the user."""


class Unreachable(Stop):
    """The gateway did not answer."""


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Answer one event; the exit code."""
    try:
        return run(Settings.of(environ), sys.stdin.buffer.read(), sys.stdout)
    except Stop as stop:
        sys.stderr.write(f"wardgate: {stop}.\n")
        return BLOCK


def run(settings: Settings, given: bytes, out: TextIO) -> int:
    """Answer one event; raises ``Stop`` when the tool must not run."""
    try:
        event = json.loads(given)
        name, tool, arguments = event["hook_event_name"], event["tool_name"], event["tool_input"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Stop(f"the event on stdin is not one of a tool ({type(error).__name__})") from None
    if not settings.key:
        raise Stop("WARDGATE_KEY is not set; it must hold an agent key")
    if name == "PreToolUse":
        answer = _before(settings, event, tool, arguments)
    elif name in ("PostToolUse", "PostToolUseFailure"):
        answer = _after(settings, event, name)
    else:
        sys.stderr.write(f"wardgate: nothing to do for the event {name!r}.\n")
        return SHOWN
    if answer:
        json.dump({"hookSpecificOutput": {"hookEventName": name, **answer}}, out)
        out.flush()
    return 0


# ------------------------------------------------------------------------------------------- before


def _before(settings: Settings, event: dict[str, Any], tool: Any, arguments: Any) -> dict[str, Any]:
    asked = {
        "tool": {"upstream": settings.upstream, "name": tool},
        "arguments": arguments,
        "thread": str(event.get("session_id", ""))[:128],
        "via": "hook",
    }
    status, said = _post(settings, "/v1/decide", asked, key=_key(event))
    if status != 200:
        return {"permissionDecision": "deny", "permissionDecisionReason": _reason(status, said)}
    answer: dict[str, Any] = {}
    action = _text(said, "action")
    if action == "modify":
        # What was allowed is not what was asked for; without a grant a person sees it first.
        answer = {
            "permissionDecision": "allow" if settings.grant else "ask",
            "permissionDecisionReason": "wardgate: policy changed the arguments.",
            "updatedInput": _object(said, "arguments"),
        }
    elif action != "allow":
        raise Stop(f"the gateway answered {action!r}, which this command does not know")
    elif settings.grant and _text(said, "verdict") == "allow":
        answer = {"permissionDecision": "allow", "permissionDecisionReason": "wardgate: allowed by policy."}
    # Otherwise nothing is said, and the client's own permissions decide as they would without us.
    notes = said.get("notes") or []
    if notes:
        answer["additionalContext"] = "wardgate: " + " ".join(_sentence(note) for note in notes)
    return answer


def _reason(status: int, said: dict[str, Any]) -> str:
    """A refusal in words for the model: what, why, and what would be accepted instead."""
    parts = [str(said.get("detail") or f"The gateway answered {status}."), str(said.get("remedy") or "")]
    text = "wardgate: " + " ".join(part for part in parts if part)
    named = (("reason", said.get("code")), ("decision", said.get("decision_id")))
    known = [f"{name} {value}" for name, value in named if value]
    return f"{text} ({', '.join(known)})" if known else text


def _sentence(note: Any) -> str:
    return " ".join(str(note.get(key, "")) for key in ("message", "remedy") if note.get(key))


# -------------------------------------------------------------------------------------------- after


def _after(settings: Settings, event: dict[str, Any], name: str) -> dict[str, Any]:
    """Report what became of it. The tool has run; what can still be held back is what the model sees."""
    if name == "PostToolUse":
        outcome, result = "ok", event.get("tool_response")
    else:
        outcome = "unknown" if event.get("is_interrupt") else "tool_error"
        result = {"error": event.get("error")}
    try:
        status, said = _settle(settings, event, outcome, result)
    except Unreachable as fault:
        if name != "PostToolUse":
            raise
        # Whether the result may be shown was for the gateway to say.
        return _held_back(result, f"the outcome could not be reported, {fault}")
    if name != "PostToolUse":
        if status != 200:
            sys.stderr.write(_reason(status, said) + "\n")
        return {}
    if status != 200:
        return _held_back(result, _reason(status, said).removeprefix("wardgate: "))
    withheld = said.get("withheld")
    if withheld:
        return _held_back(result, f"{_sentence(withheld)} (reason {withheld.get('code')})")
    shown = said.get("result")
    return {} if shown == result else {"updatedToolOutput": shown}


def _settle(
    settings: Settings, event: dict[str, Any], outcome: str, result: Any
) -> tuple[int, dict[str, Any]]:
    report = {"idempotency_key": _key(event), "outcome": outcome, "result": result}
    try:
        status, said = _post(settings, "/v1/settle", report)
    except Unreachable:
        # A gateway that refuses a large body hangs up before it is all sent.
        if len(json.dumps(result)) < LARGE:
            raise
        status, said = 413, {}
    if status != 413:
        return status, said
    # Too large to be judged: the outcome is still worth reporting, and what was not judged not shown.
    del report["result"]
    status, said = _post(settings, "/v1/settle", report)
    if status == 200:
        said["withheld"] = {"code": "too_large", "message": "The result is too large to be judged."}
    return status, said


def _held_back(result: Any, why: str) -> dict[str, Any]:
    """The tool's own output with every text taken out: the client drops a replacement of another shape."""
    return {
        "updatedToolOutput": _without_text(result),
        "additionalContext": f"wardgate: the tool ran, and its output is not shown: {why}",
    }


def _without_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_text(item) for item in value]
    return "[not shown by wardgate]" if isinstance(value, str) else value


# ------------------------------------------------------------------------------------------ the wire


def _key(event: dict[str, Any]) -> str:
    """The same for both events of one tool use, and for no other."""
    session, use = event.get("session_id"), event.get("tool_use_id")
    if not isinstance(session, str) or not isinstance(use, str) or not use:
        raise Stop("the event has no tool_use_id, so its outcome could not be reported: update the client")
    return sha256(f"{session}\0{use}".encode("utf-8", "surrogatepass")).hexdigest()


def _post(settings: Settings, path: str, body: dict[str, Any], key: str = "") -> tuple[int, dict[str, Any]]:
    import http.client

    at = urlsplit(settings.url)
    if at.scheme not in ("http", "https") or not at.hostname:
        raise Stop(f"'{settings.url}' is not an http or https address")
    try:
        content = json.dumps(body).encode()
    except (ValueError, RecursionError) as error:
        raise Stop(f"the event cannot be asked about ({error})") from None
    headers = {
        "Authorization": f"Bearer {settings.key}",
        "Content-Type": "application/json",
        "Connection": "close",
    }
    if key:
        headers["Idempotency-Key"] = f'"{key}"'
    make = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
    try:
        with _at_most(settings.timeout_s):
            connection = make(at.hostname, at.port, timeout=settings.timeout_s)
            try:
                connection.request("POST", at.path.rstrip("/") + path, content, headers)
                response = connection.getresponse()
                raw = response.read(MAX_ANSWER + 1)
            finally:
                connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"{settings.url} does not answer ({type(error).__name__}: {error})") from None
    try:
        said = json.loads(raw) if len(raw) <= MAX_ANSWER else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Unreachable(f"{settings.url} answered {response.status} with something that is not wardgate's")
    return response.status, said


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """A bound on the whole exchange: a time-out of each read alone lets a slow answer take for ever."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return

    def expired(*_: object) -> None:
        raise TimeoutError(f"not within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _text(said: dict[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str):
        raise Stop(f"the gateway's answer has no '{key}'")
    return value


def _object(said: dict[str, Any], key: str) -> dict[str, Any]:
    value = said.get(key)
    if not isinstance(value, dict):
        raise Stop(f"the gateway's answer has no '{key}'")
    return value
