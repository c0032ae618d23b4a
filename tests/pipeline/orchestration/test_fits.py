"""What can't fit is refused before anything runs, with the setting to lower; what may fit is let through."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from transformers import LlamaConfig

from gptcore.errors import DiskError, ParameterError
from pipeline.contract import params
from pipeline.orchestration import fits

ROOT = Path(__file__).resolve().parents[3]
GB = 10**9


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which nothing is made yet, on a machine of 16 GB."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(fits, "memory", lambda: (16 * GB, 12 * GB))
    monkeypatch.delenv(fits.ANYWAY, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def changed(project: Path, **changes: Any) -> dict[str, Any]:
    """The sections with ``section__field`` changed, in the file too."""
    document = params.read(project / "params.yaml")
    for name, value in changes.items():
        section, field = name.split("__")
        document[section][field] = value
    YAML(typ="safe").dump(document, project / "params.yaml")
    return params.check_all(project / "params.yaml")


def test_the_default_run_fits_and_is_described(project: Path) -> None:
    taken = fits.check(changed(project), project)
    assert [need.section for need in taken] == ["pretrain", "finetune_classify"]
    measured = json.loads((ROOT / "data/metrics/pretrain.json").read_text())["parameters"]
    assert taken[0].parameters == measured
    assert re.fullmatch(
        r"pretrain: [\d,]+ parameters; about \d+ MB of memory, at least \d+ MB of disk, [\d.]+ min at 100 GFLOP/s",
        str(taken[0]),
    )


@pytest.mark.parametrize(
    ("changes", "lever"),
    [
        ({"pretrain__batch_windows": 65_536}, "pretrain.batch_windows"),
        ({"pretrain__batch_windows": 1, "windows__context_length": 1_048_576}, "windows.context_length, model.n_layer"),
        ({"model__d_model": 65_536}, "model.n_layer or model.d_model"),
        ({"model__n_layer": 1_024, "model__d_model": 4_096}, "model.n_layer or model.d_model"),
        ({"tokenizer__vocab_size": 1_000_000, "model__d_model": 2_048, "model__n_layer": 1}, "tokenizer.vocab_size"),
        ({"pretrain__dtype": "float32", "pretrain__batch_windows": 4_096}, "pretrain.batch_windows"),
    ],
)
def test_what_cannot_fit_into_memory_names_the_setting_to_lower(project: Path, changes: Any, lever: str) -> None:
    sections = changed(project, **changes)
    told = rf"pretrain: needs about [\d,.]+ GB of memory, and 16\.0 GB is all there is here; lower {re.escape(lever)}"
    with pytest.raises(ParameterError, match=told):
        fits.check(sections, project)
    with pytest.raises(ParameterError, match=told):
        fits.check(sections, project, only="pretrain")
    assert fits.check(sections, project, only="windows") == []


def test_a_batch_of_long_documents_is_told_of_the_tuning(project: Path) -> None:
    sections = changed(project, finetune_classify__batch_documents=65_536)
    with pytest.raises(ParameterError, match=r"finetune_classify: needs .* lower finetune_classify\.batch_documents"):
        fits.check(sections, project)
    (project / "elsewhere").mkdir()
    sections = changed(project, load_gpt2__source="elsewhere")  # a model of unknown size
    assert [need.section for need in fits.check(sections, project)] == ["pretrain"]


def test_a_foundation_from_elsewhere_is_measured_once_it_is_loaded(project: Path) -> None:
    loaded = project / "data/checkpoints/load_gpt2"
    loaded.mkdir(parents=True)
    LlamaConfig().save_pretrained(loaded)  # 6.7 billion parameters
    sections = changed(project, load_gpt2__source="data/raw/foundation")
    assert [need.section for need in fits.check(sections, project)] == ["pretrain"]  # it may still be another one
    assert fits.check(sections, project, only="pretrain")[0].parameters < 10**7
    with pytest.raises(
        ParameterError, match=r"finetune_classify: needs .* lower the part that is tuned \(finetune_classify\.adapter\)"
    ):
        fits.check(sections, project, only="finetune_classify")
    (loaded / "config.json").write_text("no JSON")
    assert fits.check(sections, project, only="finetune_classify") == []


def test_frozen_weights_need_no_gradients_and_are_not_saved(project: Path) -> None:
    whole = fits.check(changed(project), project)[1]
    lora = fits.check(changed(project, finetune_classify__adapter={"rank": 8}), project)[1]
    last = fits.check(changed(project, finetune_classify__adapter={"blocks": 1}), project)[1]
    assert whole.memory["weights"] == lora.memory["weights"] == whole.memory["gradients"]
    assert lora.memory["gradients"] == 4 * 8 * 3 * (256 + 768 + 2 * 256 + 2 * (256 + 1024) + 2 * 256)  # 3 blocks
    assert last.memory["gradients"] == 4 * 12 * 256**2
    assert whole.memory["activations"] == lora.memory["activations"] == 3 * last.memory["activations"]
    for each in (lora, last):
        assert each.memory["optimizer"] == 2 * each.memory["gradients"]
        assert each.disk < whole.disk / 2


@pytest.mark.parametrize("section", ["finetune_classify", "finetune_instruct"])
def test_blocks_that_the_model_will_not_have_are_refused_before_it_is_trained(project: Path, section: str) -> None:
    fits.check(changed(project, **{f"{section}__adapter": {"blocks": 3}}), project)
    sections = changed(project, **{f"{section}__adapter": {"blocks": 4}})
    with pytest.raises(ParameterError, match=rf"^{section}\.adapter\.blocks = 4: expected at most 3, model\.n_layer"):
        fits.check(sections, project)
    fits.check(sections, project, only="pretrain")  # before which others' parameters are not its business
    fits.check(changed(project, load_gpt2__source="data/raw/foundation"), project)


def test_what_is_within_the_estimates_error_is_let_through(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = changed(project, pretrain__batch_windows=64)
    need = next(fits.needs(sections, project))
    monkeypatch.setattr(fits, "memory", lambda: (int(0.9 * need.peak), 0))
    fits.check(sections, project)
    monkeypatch.setattr(fits, "memory", lambda: (int(0.8 * need.peak), 0))
    with pytest.raises(ParameterError):
        fits.check(sections, project)
    monkeypatch.setattr(fits, "memory", lambda: (0, 0))  # a system that doesn't tell
    fits.check(sections, project)


def test_a_full_disk_is_told_unless_everything_is_made(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = changed(project)
    usage = shutil.disk_usage(project)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=50_000_000))
    with pytest.raises(DiskError, match=r"pretrain: will write at least 79 MB .*, and 50 MB are free; make space"):
        fits.check(sections, project)
    for name in ("pretrain", "finetune_classify"):
        for out in fits._outs(name, project):
            (project / out).mkdir(parents=True)
    fits.check(sections, project)
    with pytest.raises(DiskError):
        fits.check(sections, project, only="pretrain")  # it is about to write them anew
    state, kept = (project / "data/.scratch/pretrain/x" / name for name in ("step-00000250", "kept"))
    for folder in (kept, state):
        folder.mkdir(parents=True)
        with pytest.raises(DiskError):
            fits.check(sections, project, only="pretrain")
        (folder / "file").write_bytes(bytes(40_000_000))
    fits.check(sections, project, only="pretrain")  # it goes on from the state, whatever else it keeps


def test_whoever_knows_better_goes_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = changed(project, pretrain__batch_windows=65_536)
    monkeypatch.setenv(fits.ANYWAY, "1")
    assert len(fits.check(sections, project)) == 2


@pytest.mark.parametrize(
    "command",
    [["check"], ["repro"], ["flow"], ["pretrain", "--windows", "w", "--tokenizer", "t", "--out", "o", "--curve", "c"]],
)
def test_the_front_doors_refuse_before_any_work(project: Path, command: list[str]) -> None:
    changed(project, pretrain__batch_windows=65_536, model__n_layer=1_024)
    shutil.copy(ROOT / "numerics.lock", project)
    before = sorted(path.name for path in project.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GPTCORE_TRACKING": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: pretrain: needs about ")
    assert "lower pretrain.batch_windows in params.yaml (GPTCORE_ANYWAY=1 tries it anyway)" in line
    assert sorted(path.name for path in project.iterdir()) == before
