"""The stages on a tiny real text, called as functions: contracts on disk, resuming, and what goes wrong."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics  # real text that every Python has
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest

from gptcore.artifact import open_verified, sha256_file
from gptcore.config import Architecture, GPTConfig
from gptcore.data import WindowDataset
from gptcore.errors import DataError
from gptcore.formats.directory import load_model, save_model
from gptcore.formats.families import llama
from gptcore.machine.identity import state_hash
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from pipeline import run_stage
from pipeline.contract import provenance
from pipeline.corpus.documents import read_span
from pipeline.corpus.splits import SplitConfig
from pipeline.corpus.steps import CleanConfig
from pipeline.stages.download import DownloadConfig, download
from pipeline.stages.load_gpt2 import LoadGpt2Config, load_gpt2
from pipeline.stages.pretrain import PretrainConfig, pretrain
from pipeline.stages.tokenize import tokenize
from pipeline.stages.tokenizer import TokenizerConfig, tokenizer
from pipeline.stages.windows import WindowsConfig, windows
from pipeline.store.raw import Raw
from pipeline.store.splits import SPLITS
from pipeline.store.tokens import Tokens
from pipeline.store.windows import Windows
from pipeline.tracking.tracker import NullTracker

ROOT = Path(__file__).resolve().parents[3]
SPLIT = SplitConfig(val_fraction=0.1, test_fraction=0.1, min_documents=20)
CORPUS = CleanConfig(["line-ends", "exact-duplicates"])
MODEL = Architecture(d_model=32, n_layer=1, n_head=2, dropout=0.1)


def pretrain_config(**changes: Any) -> PretrainConfig:
    fields = {"max_steps": 12, "batch_windows": 4, "eval_every": 5, "eval_windows": 4, "save_every": 4, "seed": 3}
    return PretrainConfig(**{"learning_rate": 0.01, "dtype": "float32", **fields, **changes})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text of the user's own, downloaded, tokenized and cut into windows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("GPTCORE_TRACKING", "off")
    monkeypatch.setenv("GPTCORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own").mkdir()
    for name in sorted(topics)[:40]:
        (tmp_path / "own" / f"{name}.txt").write_text(topics[name], encoding="utf-8")
    prepare(tmp_path)
    return tmp_path


def prepare(root: Path, context: int = 16) -> None:
    download(root / "own", root / "raw", DownloadConfig(sources={}, use_own=True))
    tokenizer(root / "raw", root / "tokenizer", TokenizerConfig(kind="bpe", vocab_size=300), SPLIT, CORPUS)
    tokenize(root / "raw", root / "tokenizer", root / "tokens", SPLIT, CORPUS)
    windows(root / "tokens", root / "windows", WindowsConfig(context_length=context, stride=8))


def run_pretrain(root: Path, out: str = "model", model: Architecture = MODEL, **changes: Any) -> dict[str, Any]:
    return pretrain(
        root / "windows",
        root / "tokenizer",
        root / out,
        root / f"{out}.csv",
        model,
        pretrain_config(**changes),
        NullTracker(),
    ).metrics


def test_every_token_row_leads_back_to_its_text(project: Path) -> None:
    encoder = Tokenizer.load(project / "tokenizer")
    raw, seen = Raw.open(project / "raw"), 0
    for split in SPLITS:
        frame = pd.read_parquet(project / "tokens" / f"{split}-00000.parquet")
        for row in frame.itertuples():
            text = read_span(raw, row.file, row.start, row.end)
            assert encoder.encode(text) == list(row.ids)
            assert encoder.decode(row.ids) == text
            seen += 1
    assert seen == 40


def test_the_corpus_is_cleaned_before_anything_is_made_of_it(project: Path) -> None:
    for name, content in {"twice.txt": b"two\r\nlines", "once.txt": b"two\nlines"}.items():
        (project / "own" / name).write_bytes(content)
    prepare(project)
    encoder = Tokenizer.load(project / "tokenizer")
    rows = [row for split in SPLITS for row in Tokens.open(project / "tokens").documents(split)]
    assert [row.file for row in rows if encoder.decode(row.ids) == "two\nlines"] == ["own-text/once.txt"]
    assert len(rows) == 41
    again = tokenize(project / "raw", project / "tokenizer", project / "again", SPLIT, CORPUS).metrics
    assert again["dropped"] == {"line-ends": 0, "exact-duplicates": 1}
    as_it_is = tokenize(project / "raw", project / "tokenizer", project / "raw-ends", SPLIT, CleanConfig([])).metrics
    assert (as_it_is["dropped"], sum(as_it_is["documents"].values())) == ({}, 42)
    rows = [row for split in SPLITS for row in Tokens.open(project / "raw-ends").documents(split)]
    assert "two\r\nlines" in [encoder.decode(row.ids) for row in rows]


def test_the_stream_is_the_documents_with_end_of_text_between(project: Path) -> None:
    encoder = Tokenizer.load(project / "tokenizer")
    for split in SPLITS:
        documents = Tokens.open(project / "tokens").documents(split)
        expected = [encoder.eot] + [i for d in documents for i in (*d.ids.tolist(), encoder.eot)]
        stream = Windows.open(project / "windows").stream(split)
        assert stream.tolist() == expected
        starts = np.load(project / "windows" / f"{split}-starts.npy")
        assert [stream[s : s + len(d.ids)].tolist() for s, d in zip(starts, documents, strict=True)] == [
            d.ids.tolist() for d in documents
        ]


def test_windows_metrics_count_what_is_there(project: Path) -> None:
    metrics = windows(project / "tokens", project / "again", WindowsConfig(context_length=16, stride=16)).metrics
    assert metrics["windows"]["train"] == len(WindowDataset(Windows.open(project / "again").stream("train"), 16, 16))
    assert metrics["overlap"] == 0.0


def test_the_data_are_the_same_bytes_again(project: Path) -> None:
    made = [project / name for name in ("raw", "tokenizer", "tokens", "windows")]
    before = [tree_hash(directory) for directory in made]
    prepare(project)
    assert [tree_hash(directory) for directory in made] == before


def test_a_context_longer_than_the_text_says_what_fits(project: Path) -> None:
    with pytest.raises(DataError, match=r"windows\.context_length = 1000000: longer than .* set it to at most \d+"):
        windows(project / "tokens", project / "w", WindowsConfig(context_length=1_000_000, stride=8))
    assert not (project / "w").exists()


@pytest.mark.parametrize("name", ["train-00000.parquet", "manifest.json"])
def test_a_damaged_artifact_is_never_read(project: Path, name: str) -> None:
    path = project / "tokens" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"tokens"):
        windows(project / "tokens", project / "w", WindowsConfig(context_length=16, stride=8))


def test_one_text_file_just_works(tmp_path: Path, project: Path) -> None:
    for path in (project / "own").iterdir():
        path.unlink()
    (project / "own" / "only.txt").write_text(topics["assignment"] * 2, encoding="utf-8")
    prepare(project)
    made = Windows.open(project / "windows")
    assert all(len(made.stream(split)) > 16 for split in SPLITS)


def test_pretraining_writes_a_checkpoint_that_loads(project: Path) -> None:
    metrics = run_pretrain(project)
    manifest = open_verified(project / "model", "checkpoint")
    assert manifest.config["stage"] == "pretrain"
    model = load_model(project / "model")
    assert model.n_params() == metrics["parameters"]
    curve = pd.read_csv(project / "model.csv")
    assert curve["step"].tolist() == list(range(1, 13))
    assert curve["val_loss"].notna().tolist() == [s in (5, 10, 12) for s in range(1, 13)]
    assert round(curve["loss"].mean(), 6) == metrics["train_loss"]
    assert curve["loss"].iloc[-3:].mean() < curve["loss"].iloc[0]


def tree_hash(*paths: Path) -> dict[str, str]:
    files = [f for p in paths for f in [p, *sorted(p.rglob("*"))] if f.is_file()]
    return {f.name: sha256_file(f) for f in files}


def test_a_killed_training_goes_on_to_the_same_bytes(project: Path) -> None:
    """SIGKILL twice at different points, in a process of its own; then to the end."""
    run_pretrain(project, "whole")
    expected = tree_hash(project / "whole", project / "whole.csv")
    for path in (project / "data").rglob("finished"):
        path.unlink()
    subprocess.run(["rm", "-rf", str(project / "data" / ".scratch")], check=True)
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import torch; torch.set_num_threads({_threads()})\n"
        "from pathlib import Path; import os, signal\n"
        "import gptcore.checkpoint as c; real = c.save; seen = []\n"
        "def save(*a, **k):\n"
        "    real(*a, **k); seen.append(1)\n"
        "    if len(seen) == int(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "c.save = save\n"
        f"from test_stages import run_pretrain; run_pretrain(Path({str(project)!r}), 'killed')\n"
    )
    environment = {**os.environ, "GPTCORE_THREADS": str(_threads())}
    for kill_at, code in ((1, -9), (1, -9), (9, 0)):
        done = subprocess.run(
            [sys.executable, "-c", script, str(kill_at)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
    assert "going on from step 8" in done.stdout
    killed = tree_hash(project / "killed", project / "killed.csv")
    assert {k.replace("killed", "whole"): v for k, v in killed.items()} == expected


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def test_other_parameters_start_afresh(project: Path) -> None:
    run_pretrain(project, "a")
    other = run_pretrain(project, "b", seed=4)
    again = run_pretrain(project, "c")
    assert tree_hash(project / "a" / "model.safetensors") == tree_hash(project / "c" / "model.safetensors")
    assert tree_hash(project / "a" / "model.safetensors") != tree_hash(project / "b" / "model.safetensors")
    assert again != other


def test_how_often_one_looks_changes_nothing(project: Path) -> None:
    run_pretrain(project, "a")
    run_pretrain(project, "b", eval_every=1, save_every=100)
    assert tree_hash(project / "a" / "model.safetensors") == tree_hash(project / "b" / "model.safetensors")


def test_the_wrong_tokenizer_is_refused(project: Path) -> None:
    tokenizer(project / "raw", project / "other", TokenizerConfig(kind="bpe", vocab_size=310), SPLIT, CORPUS)
    with pytest.raises(DataError, match="another tokenizer"):
        pretrain(
            project / "windows",
            project / "other",
            project / "m",
            project / "m.csv",
            MODEL,
            pretrain_config(),
            NullTracker(),
        )


def test_load_gpt2_proves_parity_and_refuses_the_rest(project: Path) -> None:
    run_pretrain(project)
    metrics = load_gpt2(project / "model", project / "loaded", LoadGpt2Config(source="model")).metrics
    assert metrics["greedy_equal"]
    assert metrics["token_ids_equal"]
    assert open_verified(project / "loaded", "checkpoint").config["stage"] == "load_gpt2"
    (project / "empty").mkdir()
    with pytest.raises(DataError, match=r"model\.safetensors: missing; set load_gpt2\.source"):
        load_gpt2(project / "empty", project / "x", LoadGpt2Config(source="empty"))


@pytest.mark.parametrize(
    ("options", "reader"),
    [
        ({"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False}, "transformers"),
        ({"positions": "rotary", "tie_weights": False}, "transformers"),
        ({"positions": "rotary", "norm": "rmsnorm", "tie_weights": False}, "gptcore"),
    ],
    ids=["llama", "neox", "mixed"],
)
def test_an_architecture_beyond_gpt2_becomes_the_foundation(
    project: Path, options: dict[str, Any], reader: str
) -> None:
    run_pretrain(project, model=dataclasses.replace(MODEL, **options))
    metrics = load_gpt2(project / "model", project / "loaded", LoadGpt2Config(source="model")).metrics
    assert (metrics["against"], metrics["greedy_equal"], metrics["token_ids_equal"]) == (reader, True, True)
    made, loaded = load_model(project / "model"), load_model(project / "loaded")
    assert {name: getattr(loaded.config, name) for name in options} == options
    assert (loaded.config, state_hash(loaded)) == (made.config, state_hash(made))
    mapping = json.loads((project / "loaded" / "mapping.json").read_text())
    assert {row["ours"] for row in mapping} == {name for name, _ in loaded.named_parameters()}


def test_the_foundation_may_be_in_llamas_layout(project: Path) -> None:
    config = GPTConfig(
        vocab_size=300,
        context_length=16,
        d_model=32,
        n_layer=1,
        n_head=2,
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
    )
    save_model(GPT(config), project / "source", Tokenizer.load(project / "tokenizer"), layout=llama.FORMAT)
    metrics = load_gpt2(project / "source", project / "loaded", LoadGpt2Config(source="source")).metrics
    assert metrics["against"] == "transformers"
    assert load_model(project / "loaded").config == config
    mapping = json.loads((project / "loaded" / "mapping.json").read_text())
    assert {
        "hugging_face": "model.layers.{}.self_attn.k_proj.weight",
        "ours": "blocks.{}.attn.qkv.weight",
        "transposed": False,
        "part": "k",
    } in mapping


def test_a_second_process_is_told_who_is_at_it(project: Path) -> None:
    """The lock of a training that runs keeps a second one out, with exit code 75."""
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "pipeline", "pretrain", "--windows", "windows", "--tokenizer", "tokenizer"]
    command += ["--out", "m", "--curve", "m.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GPTCORE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, cwd=project, stderr=subprocess.PIPE, text=True) as first:
        locks: list[Path] = []
        until = time.monotonic() + 120
        while not locks and time.monotonic() < until:
            time.sleep(0.2)
            locks = [p for p in (project / "data/.scratch/pretrain").glob("*/lock") if p.read_text()]
        elsewhere = [*command, "--metrics", "other.json"]  # the same training for other outputs
        second = subprocess.run(elsewhere, env=environment, cwd=project, capture_output=True, text=True, check=False)
        assert second.returncode == 75, second.stderr
        assert f"process {first.pid} is doing this very work" in second.stderr
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 130
        assert "run it again to go on" in (first.stderr.read() if first.stderr else "")
    assert list((project / "data/.scratch/pretrain").glob("*/step-*/manifest.json"))
    assert not (project / "m").exists()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [(b"", 65, "no text"), (b"abc \xff def", 65, "offset 4"), (b"a\0b", 65, "NUL byte at offset 1")],
)
def test_bad_text_is_one_message(project: Path, content: bytes, code: int, words: str) -> None:
    for path in (project / "own").iterdir():
        path.unlink()
    (project / "own" / "text.txt").write_bytes(content)
    params = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("use_own: false", "use_own: true")
    params = params[: params.index("  sources:")] + "  sources: {}\n" + params[params.index('  foundation: ""') :]
    (project / "params.yaml").write_text(params, encoding="utf-8")
    before = tree_hash(project / "raw")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "download", "--own", "own", "--out", "raw"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert tree_hash(project / "raw") == before


def test_a_stage_by_hand_writes_metrics_view_and_provenance(project: Path) -> None:
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "windows", "--tokens", "tokens", "--out", "w"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((project / "data/metrics/windows.json").read_text())
    record = json.loads((project / "data/.provenance/windows.json").read_text())
    view = json.loads((project / "data/views/windows.json").read_text())
    assert record["metrics"] == metrics
    assert set(record["inputs"]) == {"tokens"}
    assert (view["title"], [block["kind"] for block in view["blocks"]]) == ("Data", ["table"])


def test_a_stage_hashes_every_byte_of_its_inputs_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    inputs = {name: project / "copy" / name for name in ("raw", "tokenizer")}
    for name, path in inputs.items():
        shutil.copytree(project / name, path)  # which this process has not seen
    real, hashed = hashlib.file_digest, Counter[Path]()

    def counted(file: BinaryIO, digest: str) -> Any:
        hashed[Path(file.name)] += os.fstat(file.fileno()).st_size
        return real(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    monkeypatch.setattr(provenance, "_RUNNING", [])
    run_stage.run("tokenize", {**inputs, "out": project / "made"}, project / "data" / "metrics" / "tokenize.json")
    files = [f for path in inputs.values() for f in path.rglob("*") if f.is_file() and f.name != "manifest.json"]
    assert {f: hashed[f] for f in files} == {f: f.stat().st_size for f in files}
    assert sum(len(Tokens.open(project / "made").documents(split)) for split in SPLITS) == 40
