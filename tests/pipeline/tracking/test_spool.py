"""A spool has one writer, whole lines, and each step once."""

import json
import os
import signal

import psutil

from pipeline.tracking import delivery, spool


def test_a_torn_line_is_cut_off_and_known_steps_are_not_repeated(project):
    writer = spool.SpoolWriter(project.spools, "pretrain-x", {"identity": "1"})
    for step in (1, 2, 3):
        writer.metrics({"loss": 1.0}, step)
    writer.metrics({"lr": 0.1}, 2)
    writer.close()
    with open(writer.path, "ab") as file:
        file.write(b'{"event": "metrics", "step": 4, "val')
    again = spool.SpoolWriter(project.spools, "pretrain-x", {"identity": "2"})
    for step in (2, 3, 4):
        again.metrics({"loss": 1.0, "lr": 0.1}, step)
    again.close()
    assert again.path == writer.path
    points = [
        (event["step"], name)
        for _, event in spool.read(writer.path, 0)[0]
        if event["event"] == "metrics"
        for name in event["values"]
    ]
    assert sorted(points) == [(1, "loss"), (2, "loss"), (2, "lr"), (3, "loss"), (3, "lr"), (4, "loss"), (4, "lr")]
    lines = writer.path.read_text().splitlines()
    assert all(json.loads(line) for line in lines)


def test_two_live_writers_of_one_run_do_not_share_a_file(project, monkeypatch):
    monkeypatch.setattr(spool, "LOCK_PATIENCE_SECONDS", 0.05)
    one = spool.SpoolWriter(project.spools, "tokenize-x", {"identity": "1"})
    other = spool.SpoolWriter(project.spools, "tokenize-x", {"identity": "2"})
    assert one.path != other.path
    assert len(delivery.live(project.spools)) == 2
    one.close()
    assert delivery.live(project.spools) == [other.path]
    other.close()


def test_a_worker_that_outlives_its_killed_parent_does_not_keep_the_run_alive(project, wait_for):
    code = """
import os, signal, time
from pathlib import Path
from pipeline.tracking import spool
writer = spool.SpoolWriter(Path("data/.scratch/spool"), "tokenize-x", {"identity": "1"})
if (worker := os.fork()) == 0:
    time.sleep(60)
Path("worker").write_text(str(worker))
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = project.start(code=code)
    assert process.wait(30) == -signal.SIGKILL
    worker = int((project.root / "worker").read_text())
    assert psutil.pid_exists(worker)
    wait_for(lambda: delivery.live(project.spools) == [])  # the worker lets go as soon as it gets its turn
    assert psutil.pid_exists(worker)
    os.kill(worker, signal.SIGKILL)
