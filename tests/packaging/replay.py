"""Runs every step of the Dockerfile at its real path, without Docker, and then the gateway as the image does.

To be started as root in a mount namespace of its own: there ``/opt``, ``/var/lib``, ``/mnt`` and ``/tmp`` are
covered with empty folders, so the machine keeps nothing of it. Prints one line of JSON.

    unshare --mount --propagation private python replay.py CHECKOUT PREFIX_OF_PYTHON
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHECKOUT, PREFIX = Path(sys.argv[1]), Path(sys.argv[2])
NOBODY = [
    "setpriv",
    "--reuid=65532",
    "--regid=65532",
    "--clear-groups",
    "--no-new-privs",
    "--bounding-set=-all",
]
CONFIG = """\
server: {port: 18700, admin_port: 18701}
storage: {path: /var/lib/wardgate/wardgate.db}
policy: {pack: starter}
"""


def load_steps() -> Any:
    spec = importlib.util.spec_from_file_location("dockerfile", CHECKOUT / "tests/packaging/dockerfile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dockerfile"] = module
    spec.loader.exec_module(module)
    return module.stages(CHECKOUT / "Dockerfile")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def run(steps: list[Any], inherited: dict[str, str]) -> tuple[dict[str, str], Path]:
    """Do the steps of one stage; the environment and folder they end with."""
    env, folder = dict(inherited), Path("/")
    for step in steps:
        if step.word == "ENV":
            env |= step.pairs
        elif step.word == "WORKDIR":
            folder = Path(step.rest)
            if folder.is_relative_to("/opt"):
                folder.mkdir(parents=True, exist_ok=True)
        elif step.word == "COPY" and not step.rest.startswith("--from=build"):
            *sources, target = step.rest.split()
            for source in sources:
                copied = CHECKOUT / source
                if copied.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                    shutil.copytree(copied, folder / target, ignore=ignored)
                else:
                    shutil.copy(copied, folder / target)
        elif step.word == "RUN":
            command = step.command
            if command[0] == "python3":
                command[0] = "/srv/bin/python3"
            subprocess.run(command, cwd=folder, env=env, check=True, stdout=sys.stderr)
    return env, folder


def serve(env: dict[str, str], steps: dict[str, Any]) -> dict[str, Any]:
    """Start the entry point as nobody on a file system that cannot be written, and look at it."""
    health = steps["HEALTHCHECK"].command
    health[-1] = health[-1].replace(":8701", ":18701")  # other tests may be at the usual ports
    command = [*NOBODY, *steps["ENTRYPOINT"].command, "serve", "--config", "/mnt/wardgate.yaml"]
    started = subprocess.Popen(command, cwd="/mnt", env=env, stdout=sys.stderr, stderr=sys.stderr)
    try:
        until = time.monotonic() + 60
        while (healthy := subprocess.run([*NOBODY, *health], env=env, capture_output=True)).returncode:
            assert started.poll() is None, "the gateway ended"
            assert time.monotonic() < until, healthy.stderr.decode()
            time.sleep(0.2)
        status = Path(f"/proc/{started.pid}/status").read_text()
        written = [
            str(path)
            for path in ("/opt/wardgate/x", "/etc/x", "/usr/x", "/mnt/x", "/x")
            if not subprocess.run([*NOBODY, "touch", path], capture_output=True).returncode
        ]
    finally:
        started.send_signal(signal.SIGTERM)
        code = started.wait(60)
    unhealthy = subprocess.run([*NOBODY, *health], env=env, capture_output=True).returncode
    return {
        "uid": status.split("Uid:")[1].split()[:4],
        "capabilities": status.split("CapEff:")[1].split()[0],
        "written": written,
        "exit_code": code,
        "health_of_a_stopped_gateway": unhealthy,
        "database": Path("/var/lib/wardgate/wardgate.db").stat().st_uid,
    }


def main() -> None:
    build, final = load_steps()
    for folder in ("/opt", "/var/lib", "/mnt"):
        mount("-t", "tmpfs", "tmpfs", folder)
    mount("--bind", str(PREFIX), "/srv")
    Path("/mnt/wardgate.yaml").write_text(CONFIG)
    env = {"PATH": os.environ["PATH"], "HOME": "/opt", "TMPDIR": "/opt"}
    for name in ("PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE", "PIP_CONFIG_FILE", "HTTPS_PROXY", "NO_PROXY"):
        if name in os.environ:
            env[name] = os.environ[name]
    config = Path.home() / ".config/pip/pip.conf"
    if config.exists():
        env.setdefault("PIP_CONFIG_FILE", str(config))
    run(build, env)
    for folder in ("tools", "src", "dist"):  # only /opt/wardgate is copied from the build
        shutil.rmtree(f"/opt/{folder}")
    own, _ = run(final, {})
    own["LD_LIBRARY_PATH"] = "/srv/lib"  # where a Python that was built elsewhere has its library
    own["WARDGATE_STORAGE_KEY"] = base64.b64encode(os.urandom(32)).decode()
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp")
    for folder in ("/", "/opt", "/mnt", "/srv"):
        mount("-o", "remount,bind,ro", folder)
    packages = subprocess.run(
        ["/opt/wardgate/bin/python", "-I", "-c", "import importlib.metadata as m, json;"
         "print(json.dumps({d.name: d.version for d in m.distributions()}))"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    report = serve(own, {step.word: step for step in final})
    report["packages"] = json.loads(packages)
    report["sbom"] = json.loads(Path("/opt/wardgate/sbom.cdx.json").read_text())
    report["megabytes"] = sum(p.stat().st_size for p in Path("/opt").rglob("*") if p.is_file()) // 1_000_000
    sys.stdout.write(json.dumps(report))


main()
