"""The how-to works as it is written, and the reference names what the code knows."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.policy import load, run_tests
from gateway.policy.contract import CONTRACT
from gateway.policy.gate import FORBIDDEN
from gateway.policy.problem import KINDS
from tests.policy.helpers import call, decide, tool, write

DOCS = Path(__file__).parents[2] / "docs"


def test_the_module_and_the_test_of_the_how_to_load_and_pass(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "write-a-policy.md").read_text(encoding="utf-8")
    module, tests = re.findall(r"```rego\n(.*?)```", page, re.DOTALL)
    write(
        tmp_path,
        {
            "payments_limit": module,
            "payments_limit_test.rego": tests.split("\n", 1)[1],
            "limits/data.yaml": "unattended_micro_usd: 50000000\n",
        },
    )
    policy = load(tmp_path)
    report = run_tests(policy.bundle)
    assert report.passed and sum(item.file.startswith(str(tmp_path)) for item in report.results) == 2
    asked = call({"amount_micro_usd": 50_000_001}, on=tool("bank/pay", effects=("money",)))
    assert decide(policy, asked).code == "amount_over_limit"


def test_the_data_of_the_how_to_lies_over_the_strict_pack(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "write-a-policy.md").read_text(encoding="utf-8")
    data = next(block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "egress:" in block)
    bundle = load(write(tmp_path, {"data.yaml": data}), "strict").bundle
    assert bundle.data["payments"]["unattended_micro_usd"] == 20_000_000
    assert bundle.data["payments"]["hard_cap_micro_usd"] == 10_000_000_000
    assert bundle.data["egress"]["domains"] == ["example.com", "partner.example"]


def test_the_reference_names_every_path_every_refused_builtin_and_every_module() -> None:
    page = (DOCS / "reference" / "policy.md").read_text(encoding="utf-8")
    for path, field in CONTRACT.items():
        assert f"| `input.{'.'.join(path)}` | {', '.join(field.phases)} | {field.about} |" in page
    for name, why in FORBIDDEN.items():
        assert f"| `{name}` | {why} |" in page


def test_the_data_of_choosing_a_pack_lies_over_every_pack(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "choose-a-pack.md").read_text(encoding="utf-8")
    blocks = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "policy:" not in text]
    for number, data in enumerate(blocks):
        policy = load(write(tmp_path / str(number), {"data.yaml": data}), "strict")
        shell = policy.bundle.data["hazards"]["shell"]
        wiped = call({"command": "redis-cli flushall"}, on=tool("t/run", risk="read"))
        assert ("wipe_cache" in shell["patterns"]) == ("wipe_cache" in data)
        assert (decide(policy, wiped).code == "hazardous_command") == ("wipe_cache" in data)


def test_the_reference_names_every_kind_of_problem() -> None:
    page = (DOCS / "reference" / "policy.md").read_text(encoding="utf-8")
    for kind, said in KINDS.items():
        assert f"| `{kind}` | {said.title}" in page and said.remedy in page
