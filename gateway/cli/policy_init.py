"""``wardgate policy init``: a folder in which a policy can be written, tested and reviewed."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import AsJson, fail, print_json, say


def create(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("policies"),
    owner: Annotated[str, typer.Option(help="The team that answers for the rules.")] = "security",
    force: Annotated[bool, typer.Option("--force", help="Replace files of these names.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a folder with one rule, its data, a Rego test, a table of cases, editor schemas and a CI example.

    Nothing that exists is replaced without --force.
    """
    from gateway.policy import cases, schema
    from gateway.sessions import monitors

    names = ("payments.rego", "payments_test.rego", "payments_cases.yaml", "data.yaml")
    texts = {name: _template(name) for name in names}
    workflow = _template("workflow.yaml").replace("policies/", f"{folder.name}/")
    texts[".github/workflows/policy.yaml"] = workflow
    texts[".schemas/policy-input.json"] = json.dumps(schema.published(), indent=2) + "\n"
    texts[".schemas/policy-cases.json"] = json.dumps(cases.schema(), indent=2) + "\n"
    texts[".schemas/monitors.json"] = json.dumps(monitors.schema(), indent=2) + "\n"
    existing = [name for name in texts if (folder / name).exists()]
    if existing and not force:
        fail(f"{folder / existing[0]} exists already.", "Choose another folder, or replace it with --force.")
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("OWNER", owner), encoding="utf-8")
    if as_json:
        print_json({"folder": str(folder), "files": sorted(texts)})
        return
    for name in sorted(texts):
        say(f"wrote {folder / name}")
    say()
    say(f"Next: wardgate policy check {folder} && wardgate policy test {folder} --coverage")
    say("Move .github/ to the top of your repository; see docs/how-to/test-a-policy.md.")


def _template(name: str) -> str:
    return (files("gateway.cli") / "policy_template" / name).read_text(encoding="utf-8")
