"""params.yaml: everything wrong is said at once, before any work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gptcore.errors import ParameterError
from pipeline.contract import params

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def document() -> dict:
    return params.read(ROOT / "params.yaml")


def write(directory: Path, document: dict) -> Path:
    path = directory / "params.yaml"
    YAML(typ="safe").dump(document, path)
    return path


def test_all_problems_are_listed_at_once(tmp_path: Path, document: dict) -> None:
    document["pretrian"] = document.pop("pretrain")
    document["windows"]["stride"] = 0
    document["model"]["n_head"] = 3
    document["tokenizer"]["kind"] = "wordpiece"
    document["evaluate"]["shots"] = "four"
    document["split"]["valfraction"] = 0.1
    document["corpus"]["steps"] = ["line-ends", "spelling"]
    del document["finetune_classify"]["max_tokens"]
    document["finetune_instruct"]["learning_rate"] = -1.0
    with pytest.raises(ParameterError) as caught:
        params.check_all(write(tmp_path, document))
    message = str(caught.value)
    for words in (
        "pretrian: unknown section",
        "pretrain: expected a section",
        "windows.stride = 0: expected a whole number in 1 … 1,048,576",
        "model.d_model = 256: expected a multiple of n_head = 3",
        "tokenizer.kind = 'wordpiece': expected 'gpt2' or 'bpe'",
        "evaluate.shots = 'four': expected a list",
        "split.valfraction: unknown parameter",
        "corpus.steps: expected some of exact-duplicates, line-ends, found 'spelling'",
        "finetune_classify.max_tokens: missing",
        "finetune_instruct.learning_rate = -1.0: expected a number above 0 and at most 1e+06",
    ):
        assert words in message, message


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("pretrain", "max_steps", "100"),
        ("pretrain", "max_steps", 1.5),
        ("pretrain", "max_steps", True),
        ("pretrain", "learning_rate", float("nan")),
        ("pretrain", "learning_rate", float("inf")),
        ("pretrain", "optimizer", "sgd"),
        ("windows", "stride", 257),
        ("windows", "context_length", -1),
        ("split", "test_fraction", 0.9),
        ("tokenizer", "vocab_size", 100),
        ("model", "dropout", 1.0),
        ("model", "positions", "absolute"),
        ("model", "norm", "none"),
        ("model", "mlp", True),
        ("model", "rope_theta", 0.0),
        ("model", "tie_weights", "yes"),
        ("load_gpt2", "source", ""),
        ("corpus", "steps", ["spelling"]),
        ("pretrain", "objective", "next-word"),
        ("evaluate", "tasks", ["chess"]),
        ("export", "formats", ["stone-tablets"]),
    ],
)
def test_a_bad_value_is_refused(tmp_path: Path, document: dict, section: str, field: str, value: object) -> None:
    document[section][field] = value
    with pytest.raises(ParameterError, match=field):
        params.check_all(write(tmp_path, document))


@pytest.mark.parametrize("text", ["a: [1, 2", "a: 1\na: 2\n", "- 1\n- 2\n", "\tx", "a: !!python/object:os.system 1\n"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=r"params\.yaml"):
        params.check_all(path)


def test_numbers_mean_what_dvc_reads(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: 1e-3\nb: 1e5\nc: on\n")
    assert params.read(path) == {"a": 0.001, "b": 100000.0, "c": "on"}


def test_a_stage_stops_before_any_work(tmp_path: Path, document: dict) -> None:
    document["windows"]["context_length"] = 0
    write(tmp_path, document)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "windows", "--tokens", "missing", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GPTCORE_TRACKING": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert "context_length = 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["params.yaml"]
