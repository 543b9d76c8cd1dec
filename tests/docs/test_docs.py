"""The documentation is complete, current and its links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from gateway.config import Section
from gateway.reasons import REASONS
from gateway.telemetry import semconv, specs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
ADRS = sorted((DOCS / "adr").glob("[0-9]*.md"))


@pytest.fixture(scope="module")
def generator() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(DOCS / "generate" / "reference.py")))


def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


def test_generated_parts_are_what_the_code_says_now(generator):
    outdated = [name for name, text in generator.pages().items() if page(name) != text]
    assert not outdated, "run 'make docs'"


def test_schemas_are_what_the_code_says_now(generator):
    for name, text in generator.schemas().items():
        assert page(name) == text, "run 'make docs'"


def test_generated_parts_say_so(generator):
    for name in generator.pages():
        assert generator.MARK in page(name)


def test_every_setting_is_described(generator):
    text = page("configuration.md")
    nameless = []
    for path, model in generator.sections():
        for name, field in model.model_fields.items():
            assert name in text
            if not field.description and not _is_section(field.annotation):
                nameless.append(f"{path}.{name}")
    assert not nameless, "give these a description in gateway/config.py"


def _is_section(annotation) -> bool:
    inner = getattr(annotation, "__args__", (annotation,))[-1]
    return isinstance(inner, type) and issubclass(inner, Section)


def test_every_metric_is_described():
    text = page("metrics.md")
    for spec in specs.SPECS:
        assert f"## `{spec.name}`" in text and spec.help.endswith(".")
        for label, bound in spec.labels.items():
            assert f"| `{label}` | {bound} |" in text, "every label says what bounds it"


def test_dashboards_and_alerts_are_what_they_are_now():
    made = SimpleNamespace(**runpy.run_path(str(DOCS / "generate" / "dashboards.py")))
    assert page("dashboards-and-alerts.md") == made.page(), "run 'make docs'"


def test_every_alert_is_described():
    text = page("dashboards-and-alerts.md")
    alerts = (ROOT / "observability/prometheus/rules/alerts.yml").read_text(encoding="utf-8")
    for name in re.findall(r"^ +- alert: (\w+)$", alerts, flags=re.MULTILINE):
        assert f"| `{name}` |" in text and f"runbooks/{name}.md" in text


def test_every_reason_code_is_described():
    text = page("reason-codes.md")
    for code in REASONS:
        assert f"`{code}`" in text


@pytest.mark.parametrize(("name", "document"), [("api.md", "description"), ("http.md", "agents_description")])
def test_every_address_of_an_api_is_described(generator, name, document):
    text = page(name)
    for path, item in getattr(generator, document)()["paths"].items():
        for method, operation in item.items():
            assert f"`{method.upper()} {path}`" in text
            assert operation["summary"] and operation["tags"]


def test_every_command_is_described(generator):
    text = page("cli.md")
    missing = []
    for path, command in generator.subcommands(generator.typer.main.get_command(generator.commands)):
        assert f"`{path}`" in text
        if not command.help:
            missing.append(path)
    assert not missing, "give these commands a docstring"


def test_every_span_attribute_is_described():
    text = page("traces.md")
    names = [value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)]
    for name in set(names) - {semconv.SCHEMA_URL}:
        assert f"`{name}`" in text or name in text.split("```")[1], name
    assert semconv.SCHEMA_URL.rpartition("/")[2] in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if anchor and found.suffix == ".md":
            assert anchor in _anchors(found.read_text(encoding="utf-8")), target


def _anchors(text: str) -> set[str]:
    """What a forge makes of headings, and anchors written out."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return made | set(re.findall(r"id=['\"]([^'\"]+)['\"]", text))


def test_every_page_can_be_reached_from_the_index():
    linked = set()
    waiting = [DOCS / "README.md"]
    while waiting:
        current = waiting.pop()
        if current in linked:
            continue
        linked.add(current)
        for target in re.findall(r"\]\(([^)\s#:]+)", current.read_text(encoding="utf-8")):
            found = (current.parent / target).resolve()
            waiting += found.glob("*.md") if found.is_dir() else [found] if found.suffix == ".md" else []
    assert set(DOCS.rglob("*.md")) <= linked


@pytest.mark.parametrize("path", ADRS, ids=lambda path: path.name)
def test_every_decision_says_its_status_context_decision_and_consequences(path):
    text = path.read_text(encoding="utf-8")
    assert re.match(rf"# {int(path.name[:4])}\. \S", text)
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert [name for name in headings if name in _PARTS] == list(_PARTS)


_PARTS = ("Status", "Context", "Decision", "Consequences")


def test_decisions_have_numbers_of_their_own():
    numbers = [path.name[:4] for path in ADRS]
    assert len(numbers) == len(set(numbers))
