"""The mandates of the guide can be given."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from gateway.sessions.mandate import covers, outside, parse

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "give-a-mandate.md"


def test_the_mandate_of_the_guide_is_valid_and_does_what_the_guide_says() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    documents = [yaml.safe_load(block) for block in blocks]
    one = parse(documents[0], now_ns=1_800_000_000_000_000_000)
    assert covers(one, "office/pay_invoice", "irreversible")
    assert not outside(one, "office/pay_invoice", {"amount": 500, "currency": "EUR"})
    assert {item.word for item in outside(one, "office/pay_invoice", {"currency": "USD"})} == {
        "required", "one_of",
    }  # fmt: skip
    assert outside(one, "office/send_mail", {"bcc": ["eve@example.com"]})
    assert parse(documents[1]["agents"]["accounting"]["mandate"], now_ns=1).tools == ("office/*",)
