"""A small real project under git and DVC, for the tests of everything that drives one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

PROJECT = Path(__file__).resolve().parents[2]
DVC = str(Path(sys.executable).with_name("dvc"))

# seed ─┬► left ──┬► both      left and right may run at once, the two trainings only one after the other.
#       ├► right ─┘            Each stage notes its start and its end in log.txt, which nothing depends on.
#       ├► train_a
#       └► train_b
GRAPH = {
    "seed": [],
    "left": ["seed"],
    "right": ["seed"],
    "both": ["left", "right"],
    "train_a": ["seed"],
    "train_b": ["seed"],
}

STAGE = """
import sys, time
from pathlib import Path
from ruamel.yaml import YAML

name, out, *deps = sys.argv[1:]
knobs = YAML(typ="safe").load(Path("params.yaml"))[name]

def note(what):
    with open("log.txt", "a") as log:
        log.write(f"{name} {what} {time.monotonic()}\\n")

note("start")
print(f"{name} says hello", flush=True)
time.sleep(knobs.get("seconds", 0))
if "exit" in knobs:
    print(f"{name}: this is what went wrong", file=sys.stderr)
    sys.exit(knobs["exit"])
Path(out).write_text(f"{name} {knobs['value']}\\n" + "".join(Path(dep).read_text() for dep in deps))
note("end")
"""


class ToyRepo:
    """Handles on the toy project: change its knobs, run things in it, see what ran."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = environment

    def knobs(self, stage: str, **values: Any) -> None:
        """Set what ``stage`` does: ``value`` in its out, ``seconds`` of sleep, ``exit`` code of a failure."""
        path = self.root / "params.yaml"
        params = YAML(typ="safe").load(path)
        params[stage] = {"value": 0} | values
        YAML().dump(params, path)

    def policy(self, stage: str, **options: Any) -> None:
        """Set ``meta: {prefect: …}`` of ``stage``."""
        path = self.root / "dvc.yaml"
        wiring = YAML(typ="safe").load(path)
        wiring["stages"][stage]["meta"] = {"prefect": options}
        YAML().dump(wiring, path)

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run([DVC, *arguments])

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        environment = self.environment | options.pop("environment", {})
        return subprocess.run(
            command, cwd=self.root, env=environment, text=True, capture_output=True, timeout=240, **options
        )

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        environment = self.environment | options.pop("environment", {})
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    def times(self) -> dict[str, dict[str, float]]:
        """``{"left": {"start": …, "end": …}}`` of each stage's last run, in seconds of one clock."""
        log = self.root / "log.txt"
        seen: dict[str, dict[str, float]] = {}
        for name, what, when in (line.split() for line in log.read_text().splitlines()) if log.exists() else ():
            seen.setdefault(name, {})[what] = float(when)
        return seen

    def ran(self) -> list[str]:
        """The stages that were started since the last ``forget``, in order."""
        log = self.root / "log.txt"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split()[0] for line in lines if " start " in line]

    def forget(self) -> None:
        (self.root / "log.txt").unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """What still runs with the toy project as its working directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()) == self.root and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


@pytest.fixture(scope="session")
def toy_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project, made once and copied for each test."""
    root = tmp_path_factory.mktemp("toy") / "project"
    root.mkdir()
    (root / "stage.py").write_text(STAGE)
    stages = {name: _stage(name, deps) for name, deps in GRAPH.items()}
    YAML().dump({"stages": stages}, root / "dvc.yaml")
    YAML().dump({name: {"value": 0} for name in GRAPH}, root / "params.yaml")
    ignored = ["log.txt", ".prefect/", "home/", "data/.scratch/", "data/report/", "mlflow.db", "mlartifacts/"]
    (root / ".gitignore").write_text("".join(f"/{name}\n" for name in ignored))
    shutil.copy(PROJECT / "prefect.toml", root)
    toy = ToyRepo(root, _environment(root))
    for command in (["git", "init", "--quiet"], [DVC, "init", "--quiet"], ["git", "add", "."]):
        done = toy.run(command)
        assert done.returncode == 0, done.stderr
    done = toy.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "toy"])
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def toy(toy_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyRepo]:
    """A fresh toy project, which is also this test's working directory."""
    root = tmp_path / "project"
    shutil.copytree(toy_template, root)
    environment = _environment(root)
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    toy = ToyRepo(root, environment)
    yield toy
    for process in toy.processes():
        if process.pid != os.getpid():
            process.send_signal(signal.SIGKILL)


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    """Wait until ``condition()`` holds, and fail where it doesn't within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place in which stages can be called, with nothing tracked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("GPTCORE_TRACKING", "off")
    return tmp_path


@pytest.fixture(name="wait_for", scope="session")
def wait_for_fixture() -> Any:
    return wait_for


def _stage(name: str, deps: list[str]) -> dict[str, Any]:
    train = {"meta": {"prefect": {"tags": ["train"]}}} if name.startswith("train") else {}
    return {
        "desc": f"makes {name}",
        "cmd": " ".join(["python stage.py", name, f"{name}.txt", *(f"{dep}.txt" for dep in deps)]),
        "deps": ["stage.py", *(f"{dep}.txt" for dep in deps)],
        "params": [name],
        "outs": [f"{name}.txt"],
        **train,
    }


def _environment(root: Path) -> dict[str, str]:
    """The environment less everything that reaches outside the toy project."""
    foreign = ("DVC_", "PREFECT_", "MLFLOW_", "GPTCORE_", "GIT_", "COV_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    home = root / "home"
    home.mkdir(exist_ok=True)
    return kept | {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]]),
        "PYTHONPATH": str(PROJECT),
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(home / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(home / "system"),
        "DVC_NO_ANALYTICS": "true",
        "GPTCORE_TRACKING": "off",
    }
