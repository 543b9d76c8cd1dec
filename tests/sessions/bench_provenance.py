"""What provenance costs, in CPU µs: ``python -m tests.sessions.bench_provenance`` prints the figures."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from gateway.sessions.provenance import Prints, harvest, provenance

LIMITS_US: Final[Mapping[str, float]] = {
    "result of 200 B": 20,
    "result of 1 KB": 60,
    "result of 100 KB, mail": 5_000,
    "result of 100 KB, page": 5_000,
    "result of 100 KB, records": 5_000,
    "write call, user's values": 40,
    "write call, values of results": 40,
}
"""What is promised, in CPU µs on a core of a small server; the test allows more, for busy machines."""

_NAMES: Final = [
    "ann",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "ivan",
    "judy",
    "mallory",
    "niaj",
    "olivia",
    "peggy",
    "rupert",
    "sybil",
]
_WORDS: Final = [
    "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=3 + seed % 8))
    for seed in range(4_000)
]


def result(value: Any, *, structured: bool = False) -> bytes:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    whole: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": False}
    if structured:
        whole["structuredContent"] = value
    return orjson.dumps(whole)


def mail(count: int, seed: int = 1) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "id": str(10_000 + number),
            "sender": f"{draw.choice(_NAMES)}{number}@partner.example",
            "recipients": [f"{draw.choice(_NAMES)}@corp.example"],
            "subject": f"Re: {' '.join(draw.choices(_WORDS, k=4))}",
            "body": f"Hello, {' '.join(draw.choices(_WORDS, k=40))}. See https://files.partner.example/d/{number}.",
            "timestamp": f"2026-05-{1 + number % 28:02}T10:{number % 60:02}:00",
            "read": number % 2 == 0,
        }
        for number in range(count)
    ]


def page(size: int) -> str:
    draw = random.Random(7)
    parts: list[str] = []
    while sum(map(len, parts[-50:])) >= 0 and len(parts) < size // 60:
        parts.append(f"<p>{' '.join(draw.choices(_WORDS, k=8))}, call +49 30 {draw.randrange(10**6)}</p>")
    return "\n".join(parts)[:size]


def records(count: int) -> list[dict[str, Any]]:
    draw = random.Random(3)
    return [
        {
            "id": number * 7919,
            "name": draw.choice(_WORDS),
            "total": number * 1.25,
            "ok": True,
            "tags": ["a", "b"],
        }
        for number in range(count)
    ]


def sized(make: Callable[[int], Any], size: int) -> bytes:
    count = 1
    while len(result(make(count))) < size:
        count = max(count + 1, int(count * 1.1))
    return result(make(count))


SMALL: Final = result(
    {"id": 17, "status": "created", "path": "/srv/out/report-17.txt", "by": "ann@corp.example"}
)
KILOBYTE: Final = result(mail(2))

HOSTILE: Final[Mapping[str, bytes]] = {
    "nested JSON": result("[" * 50_000 + "]" * 50_000),
    "nested objects": result('{"a":' * 200 + "1" + "}" * 200),
    "JSON in JSON": result(orjson.dumps({"a": orjson.dumps({"b": "x@y.example" * 8_000}).decode()}).decode()),
    "one token": result("a1B2" * 25_000),
    "one word": result("a" * 100_000),
    "combining marks": result("a" + "\u0301\u0327\u0335" * 16_000),
    "bidirectional": result("\u202eabc\u2066" * 12_000),
    "unfolding": result("\ufdfa" * 33_000),
    "lone surrogates": b'{"content":[{"type":"text","text":"' + b"\\ud800" * 16_000 + b'"}]}',
    "numbers": orjson.dumps({"structuredContent": {"rows": list(range(50_000))}}),
    "number texts": result(" ".join(map(str, range(100_000, 116_000)))),
    "digits": result("1" * 100_000),
    "at signs": result("@" * 100_000),
    "dots": result("a." * 50_000),
    "phone-like": result("+1 " * 33_000),
    "open brackets": result("(1" * 50_000),
    "percent": result("%41" * 33_000),
    "base64 blobs": result(" ".join(f"QUJDREVGR0hJSktMTU5P{number:06}" for number in range(3_800))),
    "escapes": result("\\u0040\\n" * 12_000),
    "entities": result("&#64;" * 20_000),
    "addresses": result(" ".join(f"u{number}@h{number}.example" for number in range(4_500))),
    "keys": orjson.dumps({"structuredContent": {f"k {number}@x.example": number for number in range(4_000)}}),
    "not JSON": b"\xff\xfe{" * 33_000,
}


def session() -> Prints:
    prints = Prints(b"session")
    prints.learn_request(
        "Please pay the March invoice of Red Bicycle Shop, 1,200.50 EUR to DE89 3704 0044 0532 0130 00, and "
        "send the receipt to ann@corp.example and bob@corp.example. Put a copy in /srv/finance/2026/ and a "
        "note in #general."
    )
    for seed in range(12):
        prints.apply(harvest(result(mail(3, seed)), "office/list_mail", key=b"session"))
    return prints


USERS: Final = {
    "to": ["ann@corp.example", "bob@corp.example"],
    "subject": "Receipt for March",
    "body": "Hello Ann,\nthe invoice was paid. Regards",
    "attachment_path": "/srv/finance/2026/receipt.pdf",
    "channel": "general",
}
OTHERS: Final = {
    "recipient": "mallory1@partner.example",
    "subject": "Receipt for March",
    "body": "Hello,\nsee https://files.partner.example/d/1 for more.",
    "iban": "GB29NWBK60161331926819",
    "amount": 1200.5,
    "event_id": "10001",
}


def cpu_us(step: Callable[[], object], rounds: int, repeats: int = 7) -> float:
    """CPU µs of one step: the best of several rounds."""
    step()
    taken = []
    for _ in range(repeats):
        before = time.process_time()
        for _ in range(rounds):
            step()
        taken.append((time.process_time() - before) / rounds * 1e6)
    return min(taken)


def learn(data: bytes) -> Callable[[], object]:
    prints = session()
    return lambda: prints.apply(harvest(data, "office/list_mail", key=b"session"))


def measure() -> dict[str, float]:
    prints = session()
    return {
        "result of 200 B": cpu_us(learn(SMALL), 2_000),
        "result of 1 KB": cpu_us(learn(KILOBYTE), 1_000),
        "result of 100 KB, mail": cpu_us(learn(sized(mail, 100_000)), 10),
        "result of 100 KB, page": cpu_us(learn(result(page(100_000))), 10),
        "result of 100 KB, records": cpu_us(learn(sized(records, 100_000)), 10),
        "write call, user's values": cpu_us(lambda: provenance(prints, USERS), 1_000),
        "write call, values of results": cpu_us(lambda: provenance(prints, OTHERS), 1_000),
    }


def hostile() -> dict[str, float]:
    return {name: cpu_us(learn(data), 1, 3) for name, data in HOSTILE.items()}


if __name__ == "__main__":
    print(f"small {len(SMALL)} B, kilobyte {len(KILOBYTE)} B")
    for name, taken in measure().items():
        print(f"{name:32} {taken:10.1f} µs   promised {LIMITS_US[name]:.0f}")
    for name, taken in hostile().items():
        print(f"hostile: {name:23} {taken:10.1f} µs")
