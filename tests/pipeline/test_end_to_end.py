"""The whole pipeline on the tiny profile, in a clone, through the commands that a user types."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.contract.stage import STAGES
from tests.clone import Clone
from tests.hub_server import HubServer, save_tiny_gpt2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    made = Clone(tmp_path_factory.mktemp("clone") / "project")
    made.printed = made.repro("--profile", "tiny")  # type: ignore[attr-defined]
    return made


def test_it_ends_with_the_numbers_and_where_to_look(clone: Clone) -> None:
    printed = clone.printed  # type: ignore[attr-defined]
    for words in ("bits/byte", "macro-F1", "data/report/index.html", "make ui", "Once upon a time"):
        assert words in printed
    assert "Traceback" not in printed
    assert {p.stem for p in (clone.root / "data/metrics").glob("*.json")} == {
        *(set(STAGES.names()) - {"export", "finetune_prefer"}),
        *(f"export-{name}" for name in ("pretrain", "finetune_classify", "finetune_instruct")),
        *("finetune_prefer-instruct", "export_preferred-instruct"),
    }


def test_a_second_run_runs_nothing(clone: Clone) -> None:
    assert "Running stage" not in clone.run("dvc", "repro")
    started = time.monotonic()
    assert "Running stage" not in clone.repro()
    assert time.monotonic() - started < 120


def test_only_what_depends_on_a_change_runs(clone: Clone) -> None:
    assert "up to date" in clone.run("dvc", "status")
    path = clone.root / "params.yaml"
    before = path.read_text(encoding="utf-8")
    text = re.sub(r"(finetune_instruct:\n(?:  .*\n)*?  max_steps: )\d+", r"\g<1>21", before)
    assert text != before
    path.write_text(text, encoding="utf-8")
    ran = set(re.findall(r"Running stage '(.+?)'", clone.run("dvc", "repro")))
    path.write_text(before, encoding="utf-8")
    preferences = {"finetune_prefer@instruct", "export_preferred@instruct"}
    assert ran == {"finetune_instruct", "export@finetune_instruct"} | preferences
    assert "Running stage" not in clone.run("dvc", "repro")  # what it was before comes back from the cache


def test_dvc_shows_what_there_is(clone: Clone) -> None:
    assert "bits_per_byte" in clone.run("dvc", "metrics", "show", "--json")
    assert "finetune_classify" in clone.run("dvc", "dag")
    assert "pretrain.max_steps" in clone.run("dvc", "params", "diff", "HEAD")
    assert "workspace" in clone.run("dvc", "exp", "show", "--csv")
    clone.run("dvc", "plots", "show", "-o", "plots")
    assert "vega" in (clone.root / "plots" / "index.html").read_text(encoding="utf-8").lower()
    shutil.rmtree(clone.root / "plots")


def test_the_exports_work_from_the_command_line(clone: Clone) -> None:
    told = clone.run("python", "-m", "gptcore", "generate", "data/export/pretrain", "Once upon a time")
    assert told.startswith("Once upon a time")
    labelled = clone.run("python", "-m", "gptcore", "classify", "data/export/finetune_classify", "oil prices rose")
    assert len(labelled.splitlines()) == 8
    for name in ("pretrain", "finetune_classify", "finetune_instruct", "finetune_prefer"):
        assert json.loads((clone.root / "data/export" / name / "parity.json").read_text())
        assert (clone.root / "data/export" / name / "README.md").stat().st_size > 1000


def test_every_executed_stage_is_an_mlflow_run(clone: Clone) -> None:
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db')\n"
        "runs = mlflow.search_runs(search_all_experiments=True, output_format='list')\n"
        "print(json.dumps({r.info.run_name: len(mlflow.MlflowClient().get_metric_history(r.info.run_id, 'loss'))"
        " for r in runs}))"
    )
    points = json.loads(clone.run("python", "-W", "ignore", "-c", code).strip().splitlines()[-1])
    assert {"pretrain", "evaluate", "finetune_classify", "export-pretrain"} <= set(points)
    assert points["pretrain"] == 30


def test_the_same_commit_gives_the_same_bytes_even_if_killed(clone: Clone, tmp_path: Path) -> None:
    """A second clone, killed with its whole process group in the middle of each training; then run to the end."""
    expected = clone.outs()
    other = Clone(tmp_path / "päth with space")
    (other.root / "params.yaml").write_bytes((clone.root / "params.yaml").read_bytes())
    scratch = other.root / "data" / ".scratch"
    for stage in ("pretrain", "finetune_classify", "finetune_instruct", "finetune_prefer"):
        with subprocess.Popen(
            ["dvc", "repro"],
            cwd=other.root,
            env=other.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            until = time.monotonic() + 400
            while not list((scratch / stage).glob("*/step-*/manifest.json")) and time.monotonic() < until:
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
        assert list((scratch / stage).glob("*/step-*/manifest.json")), stage
    other.run("dvc", "repro")
    assert other.outs() == expected
    assert (other.root / "dvc.lock").read_bytes() == (clone.root / "dvc.lock").read_bytes()


def test_bad_parameters_stop_before_any_work(clone: Clone, tmp_path: Path) -> None:
    path = clone.root / "params.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("evaluate:\n", "evalute:\n", 1), encoding="utf-8")
    try:
        printed = clone.repro(code=64)
        assert "evalute: unknown section" in printed
        assert "Running stage" not in printed
        assert "evalute: unknown section" in clone.run("python", "-m", "pipeline", "flow", code=64)
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_published_model_is_fetched_and_loaded(clone: Clone, tmp_path: Path) -> None:
    """The way of the profile gpt2-124m, against a local server that speaks the hub's protocol."""
    save_tiny_gpt2(tmp_path / "tiny")
    with HubServer({"openai-community/gpt2": tmp_path / "tiny"}) as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "GPTCORE_TRACKING": "off"}
        path = clone.root / "params.yaml"
        before = path.read_text(encoding="utf-8")
        text = before.replace(
            "load_gpt2:\n  source: data/checkpoints/pretrain", "load_gpt2:\n  source: data/raw/foundation"
        )
        text = re.sub(r"  foundation: .*\n", "  foundation: hf://openai-community/gpt2@main\n", text)
        path.write_text(text, encoding="utf-8")
        cache = tmp_path / "cache"
        shutil.copytree(os.environ["GPTCORE_CACHE"], cache)
        environment["GPTCORE_CACHE"] = str(cache)
        metrics_file = tmp_path / "metrics" / "load_gpt2.json"  # its view goes beside it: ../views
        try:
            for command in (
                ["download", "--own", "data/own", "--out", str(tmp_path / "raw")],
                ["load_gpt2", "--source", str(tmp_path / "raw" / "foundation"), "--out", str(tmp_path / "loaded")],
            ):
                done = subprocess.run(
                    ["python", "-m", "pipeline", *command, "--metrics", str(metrics_file)],
                    cwd=clone.root,
                    env={**clone.environment, **environment},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stderr
        finally:
            path.write_text(before, encoding="utf-8")
    metrics = json.loads(metrics_file.read_text())
    assert metrics["greedy_equal"]
    assert metrics["token_ids_equal"]
    assert (tmp_path / "loaded" / "vocab.json").is_file()
