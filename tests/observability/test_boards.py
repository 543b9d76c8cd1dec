"""Boards, rules and runbooks hold together, without any of the programs they are for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from gateway.cli.app import app as commands
from gateway.config import Config
from gateway.telemetry import specs
from observability import queries
from observability.boards import __main__ as generator

FOLDER = queries.FOLDER
BOARDS = queries.boards()
SPECS = {spec.name for spec in specs.SPECS}
ALERTS = [
    alert
    for group in yaml.safe_load((FOLDER / "prometheus/rules/alerts.yml").read_text())["groups"]
    for alert in group["rules"]
]
RECORDED = {
    rule["record"]: rule["expr"]
    for group in yaml.safe_load((FOLDER / "prometheus/rules/slo.yml").read_text())["groups"]
    for rule in group["rules"]
}
RUNBOOKS = sorted((FOLDER / "runbooks").glob("*.md"))
named = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def test_what_is_committed_is_what_the_code_makes():
    made = generator.files()
    assert set(made) == set(BOARDS)
    for name, text in made.items():
        assert (generator.FOLDER / name).read_text(encoding="utf-8") == text, "run 'make dashboards'"


def test_boards_have_names_that_stay_and_link_to_each_other():
    uids = [board["uid"] for board in BOARDS.values()]
    assert len(set(uids)) == len(uids) == 5
    for board in BOARDS.values():
        assert re.fullmatch(r"wardgate-[a-z]+", board["uid"])
        [link] = board["links"]
        assert (
            link["type"] == "dashboards" and link["includeVars"] and set(link["tags"]) <= set(board["tags"])
        )


@each_board
def test_every_panel_says_what_it_shows_in_which_unit_and_for_which_instances(board: dict[str, Any]):
    ids = [panel["id"] for panel in board["panels"]] + [panel["id"] for panel in queries.panels(board)]
    assert len({id(panel) for panel in queries.panels(board)}) <= len(set(ids))
    for panel in queries.panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "$datasource"
        for target in panel["targets"]:
            for selector in re.findall(
                r"(?<![:\w])(?:wardgate|process)_\w+(?!:)\b(\{[^}]*\})?", target["expr"]
            ):
                assert 'job=~"$job",instance=~"$instance"' in selector, target["expr"]


@each_board
def test_a_board_opens_with_what_fits_on_a_screen(board: dict[str, Any]):
    shown = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len([panel for panel in shown if panel["type"] == "stat"]) <= 8
    assert len([panel for panel in shown if panel["type"] != "stat"]) <= 8
    assert all(panel["collapsed"] for panel in board["panels"] if panel["type"] == "row")


@each_board
def test_only_panels_of_metrics_with_exemplars_ask_for_them(board: dict[str, Any]):
    pointing = {spec.name for spec in specs.SPECS if spec.exemplar}
    for panel in queries.panels(board):
        for target in panel["targets"]:
            if target.get("exemplar"):
                assert queries.metrics(target["expr"]) <= pointing, target["expr"]


def used() -> dict[str, set[str]]:
    """Metrics by where they are used."""
    found: dict[str, set[str]] = {}
    for board in BOARDS.values():
        for asked in queries.asked(board, job="wardgate", rate_interval="1m"):
            for name in queries.metrics(asked.expr):
                found.setdefault(name, set()).add(f"{asked.board}: {asked.panel}")
    for name, expr in [*RECORDED.items(), *((alert["alert"], alert["expr"]) for alert in ALERTS)]:
        for metric in queries.metrics(expr):
            found.setdefault(metric, set()).add(name)
    return found


def test_every_metric_that_is_used_exists():
    for name, where in used().items():
        assert name in SPECS or not name.startswith("wardgate_"), (name, where)


def test_every_metric_there_is_is_used_or_said_not_to_be():
    unused = SPECS - set(used())
    assert unused == set(generator.UNUSED), (
        "show these on a board, alert on them, or say in observability/boards/__main__.py why not"
    )


def test_recorded_series_that_are_used_are_recorded():
    for text in [
        *(path.read_text() for path in (FOLDER / "grafana/dashboards").glob("*.json")),
        *(alert["expr"] for alert in ALERTS),
    ]:
        assert set(re.findall(r"job:\w+:\w+", text)) <= set(RECORDED)


@named
def test_an_alert_says_how_urgent_it_is_and_where_to_look(alert: dict[str, Any]):
    assert re.fullmatch(r"Wardgate([A-Z][a-z]+)+", alert["alert"])
    assert alert["labels"]["severity"] in ("page", "ticket", "info")
    said = alert["annotations"]
    assert said["summary"].endswith(".") and said["description"].endswith((".", "})."))
    assert said["dashboard_url"].removeprefix("/d/") in {board["uid"] for board in BOARDS.values()}
    assert said["runbook_url"] == f"observability/runbooks/{alert['alert']}.md"


@named
def test_an_alert_has_a_runbook(alert: dict[str, Any]):
    text = (FOLDER / "runbooks" / f"{alert['alert']}.md").read_text(encoding="utf-8")
    meaning, look, do = re.split(r"^## (?:Look at|Do)$", text, flags=re.MULTILINE)
    assert meaning.startswith(f"# {alert['alert']}\n") and len(meaning.split()) > 12
    assert "\n- " in look and "\n- " in do


def test_there_is_no_runbook_without_its_alert():
    assert {path.stem for path in RUNBOOKS} == {alert["alert"] for alert in ALERTS}


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    seen: dict[str, list[bool]] = {}
    for path in (FOLDER / "prometheus/tests").glob("*.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for expected in case["alert_rule_test"]:
                seen.setdefault(expected["alertname"], []).append(bool(expected["exp_alerts"]))
    assert {name: sorted(fires) for name, fires in seen.items()} == {
        alert["alert"]: [False, True] for alert in ALERTS
    }


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_names_commands_settings_and_pages_that_exist(path: Path):
    text = " ".join(path.read_text(encoding="utf-8").split())
    for words in re.findall(r"`wardgate ([^`]*)`", text):
        command: Any = typer.main.get_command(commands)
        for word in words.split():
            if word.startswith("--"):
                assert word in {name for option in command.params for name in option.opts}, words
            elif hasattr(command, "commands") and word in command.commands:
                command = command.commands[word]
            elif word != "…":
                assert not hasattr(command, "commands"), words
    for setting in re.findall(r"`((?:limits|telemetry|storage|server|policy)\.[a-z_.]+)`", text):
        model: Any = Config
        for name in setting.split("."):
            assert name in model.model_fields, setting
            model = model.model_fields[name].annotation
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / target).resolve().exists(), target
    for board in re.findall(r"(\w+) board", text):
        assert board in ("overview", "policy", "approvals", "tools", "agents", "the"), board


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_names_panels_that_exist(path: Path):
    titles = {panel["title"] for board in BOARDS.values() for panel in queries.panels(board)}
    titles |= {panel["title"] for board in BOARDS.values() for panel in board["panels"]} | {"Outcome error"}
    text = " ".join(path.read_text(encoding="utf-8").split())
    for title in re.findall(r"(?<!\w)'([A-Z][^']*(?:'s [^']*)?)'(?!\w)", text):
        assert title in titles, title


def test_none_of_it_is_installed():
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["gateway"]
    assert not (FOLDER / "__init__.py").exists()


def test_the_parts_of_the_stack_know_each_other():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert ":" in service["image"] and not service["image"].endswith(":latest")
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (FOLDER / source).exists(), source
            else:
                assert source in compose["volumes"]
        assert set(service.get("depends_on", ())) <= set(compose["services"])
    collector = yaml.safe_load((FOLDER / "collector/config.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])
    tempo = yaml.safe_load((FOLDER / "tempo/tempo.yaml").read_text())
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/wardgate.yaml").read_text())[
        "datasources"
    ]
    by_type = {source["type"]: source for source in sources}
    assert str(tempo["server"]["http_listen_port"]) in by_type["tempo"]["url"]
    received = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert collector["exporters"]["otlp/tempo"]["endpoint"] == received
    assert "--web.listen-address=127.0.0.1:9090" in compose["services"]["prometheus"]["command"]
    assert by_type["prometheus"]["url"].endswith(":9090")
    [trace] = by_type["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert trace == {"name": "trace_id", "datasourceUid": by_type["tempo"]["uid"]}
    port = Config().server.admin_port
    jobs = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}["wardgate"] == [
        f"127.0.0.1:{port}"
    ]
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/wardgate.yaml").read_text())[
        "providers"
    ][0]
    assert any(
        f":{provider['options']['path']}:ro" in each for each in compose["services"]["grafana"]["volumes"]
    )
