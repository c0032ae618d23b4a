"""A trainer as ours are, and a folder in which it runs and leaves its records."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

# A checkpoint every 10 steps, resumed from the last one, killed at a step if told to.
TRAINER = """
import json, os, signal, sys, time
from pathlib import Path
from pipeline.tracking import runs

steps, seconds, die_at = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
lr = float(sys.argv[4]) if len(sys.argv) > 4 else 0.1
checkpoint = Path("checkpoint")
first = int(checkpoint.read_text()) if checkpoint.exists() else 0
fingerprint = f"{lr}".replace(".", "") * 16
with runs.run("pretrain", fingerprint, {"model": {"n_layer": 3}, "pretrain": {"lr": lr}},
                  {"windows": "a" * 64}, {"machine_class": "toy"}) as tracker:
    slowest = 0.0
    for step in range(first + 1, steps + 1):
        began = time.perf_counter()
        tracker.log({"loss_nats_per_token": 1 / step, "lr": lr}, step)
        if step % 10 == 0:
            tracker.log({"val_nats_per_token": 2 / step}, step)
        slowest = max(slowest, time.perf_counter() - began)
        if step % 10 == 0:
            checkpoint.write_text(str(step))
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
    Path("curve.csv").write_text("step,loss")
    tracker.artifact(Path("curve.csv"), "plots/curve.csv")
    tracker.finish({"loss_nats_per_token": 0.5, "per class": {"earn": 0.9}, "format": "safetensors"})
print("slowest", slowest)
"""


class Project:
    """A folder in which stages run and leave their records."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = environment
        self.spools = root / "data" / ".scratch" / "spool"

    def start(self, *arguments: object, code: str = TRAINER) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def train(self, *arguments: object, code: str = TRAINER) -> int:
        process = self.start(*arguments, code=code)
        self.said = process.communicate(timeout=120)
        return process.returncode

    def drain(self, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.tracking", "--drain", "--timeout", str(timeout)]
        return subprocess.run(
            command, cwd=self.root, env=self.environment, text=True, capture_output=True, timeout=timeout + 60
        )

    def feeders(self) -> list[psutil.Process]:
        return [p for p in psutil.process_iter() if "-m pipeline.tracking" in _command(p) and _folder(p) == self.root]

    @property
    def store(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}")

    def runs(self, name: str | None = None) -> list[Any]:
        experiment = self.store.get_experiment_by_name("gptcore")
        runs = self.store.search_runs([experiment.experiment_id], order_by=["start_time"])
        return [run for run in runs if name in (None, run.info.run_name)]

    def steps(self, run: Any, metric: str) -> list[int]:
        return [point.step for point in self.store.get_metric_history(run.info.run_id, metric)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _folder(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except (psutil.Error, OSError):
        return None
