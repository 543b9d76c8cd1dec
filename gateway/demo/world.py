"""The processes of the demo: the office, the gateway in front of it, and the folder they live in.

The gateway is ``wardgate serve`` on a configuration file like anybody's; nothing here reaches into it.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from gateway.demo import gitserver
from gateway.demo.gitserver import Unavailable

AGENTS: Final = {
    "finance-bot": {
        "owner": "finance-team@example.com",
        "labels": ["accounting"],
        # What its user asked for: after reading mail it still writes to whom he named, and to nobody else.
        "mandate": {
            "objective": "Pay what is open",
            "request": "Pay the open invoices and tell books@example.com which ones are paid.",
            "tools": ["office/list_invoices", "office/pay_invoice", "office/read_mail", "office/send_mail"],
            "risks": ["read", "irreversible"],
        },
    },
    "support-bot": {"owner": "support-team@example.com", "labels": ["support"]},
    "dev-bot": {
        "owner": "platform-team@example.com",
        "labels": ["developer"],
        "mandate": {
            "objective": "Commit a change",
            "request": "Look at the change in rates.py and commit it.",
            "tools": ["git/git_status", "git/git_log", "git/git_diff*", "git/git_add", "git/git_commit"],
            "risks": ["read", "reversible"],
        },
    },
}

CONFIG: Final = """\
# The demo's gateway: the strict pack and the company's own policies over it, enforced, in front of a small
# office and a git repository.
mode: enforce
server: {{port: 0, admin_port: 0}}
storage: {{path: wardgate.db, key_file: wardgate.key}}
policy: {{pack: strict, path: policies}}
telemetry: {{log_level: warning}}

upstreams:
  office:
    url: {office}
    # The company's own books are trusted; what comes by mail can have been written by anybody.
    tools:
      "list_*": {{risk: read, domain: finance, integrity: trusted}}
      read_mail: {{risk: read, domain: mail, integrity: untrusted}}
      get_customer: {{risk: read, domain: customers, integrity: trusted, confidentiality: 2}}
      update_customer: {{risk: reversible, effects: [write], domain: customers, integrity: trusted}}
      delete_customer: {{risk: irreversible, effects: [write, delete], domain: customers}}
      export_customers: {{risk: irreversible, effects: [bulk], domain: customers, confidentiality: 3}}
      send_mail:
        risk: irreversible
        effects: [egress]
        domain: mail
        integrity: trusted
        sensitive: [/body]
      pay_invoice:
        risk: irreversible
        effects: [money]
        domain: finance
        integrity: trusted
        effect_key: "invoice:{{invoice_id}}"
  git:
    command: {git}
    tools:
      "git_status": {{risk: read, domain: code, integrity: trusted}}
      "git_log": {{risk: read, domain: code}}
      "git_diff*": {{risk: read, domain: code}}
      "git_show": {{risk: read, domain: code}}
      "git_branch": {{risk: read, domain: code}}
      "git_add": {{risk: reversible, effects: [write], domain: code}}
      "git_commit": {{risk: reversible, effects: [write], domain: code}}
      "git_reset": {{risk: irreversible, effects: [write, delete], domain: code}}

agents:
{agents}
"""


class World:
    """A folder with everything in it; leaving the context stops the processes and keeps the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "wardgate.yaml"
        self.office_state = folder / "office.db"
        self.repository = folder / "repository"
        self.office_url = ""
        self.agents_url = ""
        self.admin_url = ""
        self.keys: dict[str, str] = {}
        self.operator_key = ""
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:  # whatever stopped it, nothing may be left running
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def wardgate(self, *arguments: str, width: int = 200) -> str:
        """Output of a ``wardgate`` command on this world, as a user would run it."""
        command = [sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.config)]
        env = {**os.environ, "COLUMNS": str(width)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env)
        if done.returncode != 0:
            raise Unavailable(f"'wardgate {' '.join(arguments)}' failed: {done.stderr.strip()}")
        return done.stdout

    def _build(self) -> None:
        python = gitserver.installed()
        gitserver.repository(self.repository)
        office = self._start(
            "office", "-m", "gateway.demo.office", "--port", "0", "--state", str(self.office_state)
        )
        self.office_url = office["url"]
        self._configure(python)
        self._issue_keys()
        gateway = self._start("gateway", "-m", "gateway.cli", "serve", "--config", str(self.config), "--json")
        self.agents_url, self.admin_url = gateway["agents"], gateway["admin"]

    def _configure(self, git_python: Path) -> None:
        from gateway.storage.crypto import new_key

        git = [str(git_python), "-m", "mcp_server_git", "--repository", str(self.repository)]
        agents = "".join(f"  {name}: {json.dumps(about)}\n" for name, about in AGENTS.items())
        self.config.write_text(CONFIG.format(office=self.office_url, git=json.dumps(git), agents=agents))
        shutil.copytree(Path(__file__).with_name("policies"), self.folder / "policies")
        with os.fdopen(os.open(self.folder / "wardgate.key", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(new_key())

    def _issue_keys(self) -> None:
        """What 'wardgate keys new' does, for all at once."""
        from gateway.identity import keys
        from gateway.storage.credentials import Credentials
        from gateway.storage.database import Database

        with Database(self.folder / "wardgate.db").open() as database:
            store = Credentials(database)
            for agent in AGENTS:
                minted = keys.mint(store, kind="agent", tenant="default", name=agent)
                self.keys[agent] = minted.token
            you = keys.mint(store, kind="operator", tenant="default", name="you", role="operator")
            self.operator_key = you.token

    def _start(self, name: str, *arguments: str, timeout: float = 60.0) -> dict[str, Any]:
        """Start a part and wait for the one line of JSON with which it says where it listens."""
        log = (self.folder / f"{name}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder,
            start_new_session=True,  # Ctrl-C is for the demo, which stops its parts in order
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        line = _first_line(process.stdout, timeout)
        if not line:
            raise Unavailable(f"the {name} did not start: {_tail(self.folder / f'{name}.log')}")
        announced: dict[str, Any] = json.loads(line)
        return announced

    def _stop(self) -> None:
        """The gateway first, so that it can finish its calls; nobody survives ten seconds."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


def _first_line(stream: IO[str], timeout: float) -> str:
    """The first line of a pipe, or an empty string when it ends or takes too long; the rest is drained."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        lines.put(stream.readline())
        for _ in stream:  # a full pipe would stop the process
            pass

    threading.Thread(target=read, daemon=True).start()
    try:
        return lines.get(timeout=timeout)
    except queue.Empty:
        return ""


def _tail(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    return " / ".join(lines[-3:]) or "it said nothing"
