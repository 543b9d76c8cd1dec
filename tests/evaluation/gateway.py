"""The gateway under evaluation: ``wardgate serve`` on a configuration file, and an agent on its HTTP API.

Only the product's own interfaces are used: the configuration, the policy folder laid over the strict pack,
``POST /v1/sessions`` for the mandate of a task and ``POST /v1/calls``. How a reviewer is simulated is told in
docs/reference/evaluation.md; it stands in ``Reviewed``.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from gateway.policy import load as load_policy
from tests.e2e.gateway import Wardgate
from tests.evaluation.cases import FOLDER, Suite, Task
from tests.evaluation.configurations import Configuration
from tests.evaluation.replay import Answer
from tests.evaluation.server import serving
from tests.evaluation.worlds.kit import World

Json = Any
RULES: Final = Path(__file__).parents[2] / "policies" / "rules"
ESCALATED: Final = frozenset({"approval_needed", "approvals_not_configured"})
SESSION: Final = "Wardgate-Session"

ORCHESTRATOR: Final = "orchestrator"  # opens the sessions of the others
AGENT: Final = "assistant"  # policy enforced
REVIEWED: Final = "assistant-reviewed"  # verdicts told and not enforced, for the simulated reviewers


class Broken(Exception):
    """The gateway answered something that is neither a result nor a verdict: nothing was measured."""


class Running:
    """A started gateway, its worlds, and one kept connection."""

    def __init__(self, gateway: Wardgate, worlds: dict[str, World], configuration: Configuration) -> None:
        self._gateway = gateway
        self._configuration = configuration
        self.worlds = worlds
        where = urlsplit(gateway.agents_url)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def open_session(self, agent: str, suite: str, task: Task) -> str:
        """A new session of the agent, opened by the orchestrator with the mandate of the task or the role."""
        tools = task.tools if self._configuration.per_task else sorted(self.worlds[suite].tools)
        delegated = mandate(suite, task, tools, bounds=self._configuration.bounds)
        body = {"agent": agent, "mandate": delegated}
        status, said = self.post("/v1/sessions", self._gateway.key(ORCHESTRATOR), body)
        if status != 201:
            raise Broken(f"no session: {status} {said}")
        return str(said["id"])

    def ask(self, path: str, agent: str, body: Json, session: str) -> tuple[int, Json]:
        return self.post(path, self._gateway.key(agent), body, {SESSION: session})

    def post(
        self, path: str, key: str, body: Json, headers: dict[str, str] | None = None
    ) -> tuple[int, Json]:
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **(headers or {})}
        self._connection.request("POST", path, json.dumps(body).encode(), sent)
        response = self._connection.getresponse()
        raw = response.read()
        return response.status, json.loads(raw) if raw else None


def mandate(suite: str, task: Task, tools: Iterable[str], *, bounds: bool = False) -> Json:
    """What an orchestrator delegates that knows the user's words and the tools, and has seen no data."""
    return {
        "objective": task.id,
        "request": task.request,
        "tools": [f"{suite}/{name}" for name in tools],
        "reads": "any",
        **({"arguments": {f"{suite}/{tool}": said for tool, said in task.bounds.items()}} if bounds else {}),
    }


# ------------------------------------------------------------------------------------------------- ways


class Enforced:
    """Nobody is there to approve: what is escalated is not done."""

    def __init__(self, running: Running, suite: str, session: str) -> None:
        self._running = running
        self._suite = suite
        self._session = session

    def call(self, tool: str, arguments: dict[str, Json], *, wanted: bool) -> Answer:
        body = {"tool": f"{self._suite}/{tool}", "arguments": arguments}
        status, said = self._running.ask("/v1/calls", AGENT, body, self._session)
        if status == 200:
            return Answer(verdict="allow", result=said["result"])
        return _refusal(status, said)


class Reviewed:
    """A person decides what is escalated; ``careless`` approves everything, else only what the user wanted.

    The call is decided for an agent whose gateway mode is ``observe``: the verdict is told and not enforced.
    What policy allows, and what it escalates and the person approves, is run at the tool server and
    reported with its result (``POST /v1/settle``), so that labels, prints and budgets of the session are
    those of a call that was made. Everything else is reported as not sent.
    """

    def __init__(self, running: Running, suite: str, session: str, *, careless: bool) -> None:
        self._running = running
        self._suite = suite
        self._session = session
        self._careless = careless

    def call(self, tool: str, arguments: dict[str, Json], *, wanted: bool) -> Answer:
        body = {"tool": f"{self._suite}/{tool}", "arguments": arguments}
        status, said = self._running.ask("/v1/decide", REVIEWED, body, self._session)
        if status != 200:
            return _refusal(status, said)
        verdict, code = "allow", ""
        if said.get("observed"):
            verdict, code = said["observed"]["verdict"], said["observed"]["code"]
        decision = said["decision_id"]
        approved = verdict == "escalate" and (self._careless or wanted)
        if verdict != "allow" and not approved:
            self._settle({"decision_id": decision, "outcome": "not_sent"})
            return Answer(verdict=verdict, code=code)
        result = self._running.worlds[self._suite].call(tool, said["arguments"])
        outcome = "tool_error" if result.get("isError") else "ok"
        status, shown = self._settle({"decision_id": decision, "outcome": outcome, "result": result})
        if status != 200:
            return Answer(verdict="withheld", code=shown["code"])
        return Answer(verdict=verdict, code=code, approved=approved, result=shown.get("result") or result)

    def _settle(self, report: Json) -> tuple[int, Json]:
        status, said = self._running.ask("/v1/settle", REVIEWED, report, self._session)
        if status != 200 and not (status == 403 and said.get("effect") == "done"):
            raise Broken(f"not settled: {status} {said}")
        return status, said


def _refusal(status: int, said: Json) -> Answer:
    code = str((said or {}).get("code", ""))
    if status == 403 and said.get("effect") == "done":
        return Answer(verdict="withheld", code=code)
    if code in ESCALATED:
        return Answer(verdict="escalate", code=code)
    if status in (403, 404):
        return Answer(verdict="deny", code=code)
    raise Broken(f"{status}: {said}")


# ------------------------------------------------------------------------------------------------- start


@contextmanager
def running(folder: Path, suites: list[Suite], configuration: Configuration) -> Iterator[Running]:
    """A gateway with this configuration in front of the tool servers of all suites."""
    worlds = {suite.name: suite.world() for suite in suites}
    with serving(worlds) as urls:
        upstreams = {suite.name: {"url": urls[suite.name], "tools": suite.manifests} for suite in suites}
        gateway = Wardgate(
            folder, upstreams,
            policy={"pack": "strict", "path": "policies", "self_test": False, "reload": False},
            agents={
                ORCHESTRATOR: {"owner": "user", "mints": {"agents": [AGENT, REVIEWED]}},
                AGENT: {"owner": "user", "labels": ["assistant"]},
                REVIEWED: {"owner": "user", "labels": ["assistant"], "mode": "observe"},
            },
            telemetry={"log_level": "warning"},
        )  # fmt: skip
        lay_over(gateway.policies, configuration)
        started = None
        try:
            gateway.start()
            started = Running(gateway, worlds, configuration)
            yield started
        finally:
            if started is not None:
                started.close()
            gateway.close()
            shutil.rmtree(folder, ignore_errors=True)


def lay_over(policies: Path, configuration: Configuration) -> None:
    """Write the operator's data, and copies of modules that this configuration only observes."""
    for each in policies.iterdir():
        each.unlink()
    data = yaml.safe_load((FOLDER / "operator.yaml").read_text())
    (policies / "data.yaml").write_text(yaml.safe_dump(data))
    for module in configuration.observed:
        source = next(RULES.glob(f"*/{module}.rego"))
        text, changed = re.subn(r"(?m)^#   mode: enforce$", "#   mode: observe", source.read_text(), count=1)
        if not changed:
            raise Broken(f"{source} says no mode")
        (policies / source.name).write_text(text)
    load_policy(
        policies, "strict"
    )  # a mistake in the overlay is told here, and not as a gateway that does not start
