"""``python -m pipeline ui``: Prefect's and MLflow's pages on this machine, until Ctrl-C.

Both servers listen on the loopback address only, for neither has authentication, and refuse what another web site
makes the browser ask (`prefect_server.py`; MLflow by its own option, whose default lets ``10.evil.org`` in).
MLflow's starts lean: with its job execution on and its default number of workers it takes 2.2 GB instead of 0.5.
Both read the stores in the project's folder that runs write to anyway, so what ran before shows too, and a flow that
starts while the page is open finds the server by the address noted in the scratch.

Two at once would be two servers on one SQLite file: the second is refused and told where the first is, and
servers that outlived a killed one are stopped first.
"""

import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import psutil

from gptcore.artifact import write_json
from gptcore.errors import BusyError, SourceUnavailableError
from pipeline import locks, project
from pipeline.orchestration import processes
from pipeline.tracking.stores import mlflow as tracking

HOST = "127.0.0.1"
START_SECONDS = 180.0
POLL_SECONDS = 0.3
ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class Server:
    """One server: how to start it and how to tell that it runs."""

    name: str
    port: int
    command: list[str]
    settings: dict[str, str]
    health: str
    """Path that answers once the server is ready."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def ui(prefect_port: int = 4200, mlflow_port: int = 5000) -> None:
    """Serve both pages until interrupted; a port that is taken is replaced by the next free one."""
    project.quiet()
    with locks.held(_lock_file(), wait=False) as mine:
        if mine is None:
            raise BusyError(f"the pages are open already: {' · '.join(note['url'] for note in _notes().values())}")
        _stop_leftovers()
        servers = [prefect_server(free_port(prefect_port))]
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            servers.append(mlflow_server(free_port(mlflow_port)))
        with suppress(KeyboardInterrupt), processes.interruptible(), running(servers):
            for server in servers:
                print(f"{server.name:8}{server.url}")
            print("Ctrl-C stops both", flush=True)
            while True:
                time.sleep(3600)


@contextmanager
def running(servers: list[Server]) -> Iterator[None]:
    """All ``servers`` up and answering; on leaving, all of their processes are gone."""
    logs = project.scratch() / "ui"
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        started = [(server, stack.enter_context(_started(server, logs))) for server in servers]
        stack.callback(_address_file().unlink, missing_ok=True)
        for server, process in started:
            _wait_for(server, process, logs)
        write_json(_address_file(), {server.name: _note(server, process) for server, process in started})
        yield


def prefect_server(port: int) -> Server:
    """Prefect's server on the database that runs without a server use too."""
    return Server(
        "prefect",
        port,
        [sys.executable, "-m", "pipeline.orchestration.prefect_server", "--host", HOST, "--port", str(port)],
        {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_UI_API_URL": "/api"},
        "/api/health",
    )


def mlflow_server(port: int) -> Server:
    """MLflow's page on the project's own store, which is made here if need be."""
    tracking.MLflowStore()
    store = [
        "--backend-store-uri",
        tracking.tracking_uri(),
        "--default-artifact-root",
        tracking.artifact_root().as_uri(),
    ]
    hosts = ["--allowed-hosts", ",".join(f"{name}:{port}" for name in (HOST, "localhost"))]
    return Server(
        "mlflow",
        port,
        [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1", *store, *hosts],
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        "/health",
    )


def address(name: str) -> str | None:
    """Where the page called ``name`` is open now, if it is."""
    note = _notes().get(name)
    return note["url"] if note and answers(note["url"]) else None


def answers(url: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether anything speaks HTTP at ``url``; a refusal is an answer too."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def free_port(wanted: int) -> int:
    """``wanted``, or the next port above it that nobody listens on."""
    for port in range(wanted, 65536):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise SourceUnavailableError(f"no free port from {wanted} upwards on {HOST}; stop one of the servers there")


@contextmanager
def _started(server: Server, logs: Path) -> Iterator[Popen[Any]]:
    surroundings = {**os.environ, **project.QUIET, "PYTHONPATH": project.module_path(), **server.settings}
    with open(logs / f"{server.name}.log", "wb") as log:
        with processes.group(
            server.command, cwd=project.root(), env=surroundings, stdout=log, stderr=STDOUT
        ) as process:
            yield process


def _wait_for(server: Server, process: Popen[Any], logs: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _ready(server):
        if process.poll() is not None or time.monotonic() > deadline:
            log = logs / f"{server.name}.log"
            last = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise SourceUnavailableError("\n".join([f"{server.name}'s server did not start; the end of {log}:", *last]))
        time.sleep(POLL_SECONDS)


def _ready(server: Server) -> bool:
    with suppress(OSError, ValueError):
        with urllib.request.urlopen(server.url + server.health, timeout=ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    return False


def _note(server: Server, process: Popen[Any]) -> dict[str, Any]:
    return {"url": server.url, "pid": process.pid, "started": psutil.Process(process.pid).create_time()}


def _notes() -> dict[str, dict[str, Any]]:
    with suppress(OSError, ValueError):
        return dict(json.loads(_address_file().read_text()))
    return {}


def _stop_leftovers() -> None:
    """End the servers of pages that were killed; a pid counts only with the time it was started."""
    for note in _notes().values():
        with suppress(psutil.Error, ProcessLookupError):
            if psutil.Process(note["pid"]).create_time() == note["started"]:
                os.killpg(note["pid"], signal.SIGINT)


def _address_file() -> Path:
    return project.scratch() / "ui" / "addresses.json"


def _lock_file() -> Path:
    return project.scratch() / "ui" / "lock"
