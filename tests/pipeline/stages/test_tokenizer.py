"""Learning a vocabulary: text without spaces is bounded and told, and a signal ends it with nothing written."""

import json
import os
import random
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from ruamel.yaml import YAML

from gptcore.artifact import open_verified
from pipeline.corpus.splits import SplitConfig
from pipeline.corpus.steps import CleanConfig
from pipeline.stages.tokenizer import TokenizerConfig, tokenizer
from pipeline.store.raw import Layout
from tests.raw_data import make_raw

ROOT = Path(__file__).resolve().parents[3]
SPLIT, CORPUS = SplitConfig(val_fraction=0.1, test_fraction=0.1, min_documents=20), CleanConfig([])
TEXTS = Layout("jsonl", text_column="text")


def letters(size: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=size))


def raw_of(directory: Path, texts: list[str]) -> Path:
    return make_raw(directory, ("texts", TEXTS, "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()))


def test_words_that_were_cut_are_told(tmp_path: Path) -> None:
    texts = [topics[name] for name in sorted(topics)[:40]] + [letters(500, seed) for seed in range(40)]
    outcome = tokenizer(raw_of(tmp_path, texts), tmp_path / "out", TokenizerConfig("bpe", 300), SPLIT, CORPUS)
    assert 20 < outcome.metrics["words_cut"] <= 40
    assert f'["words cut", {outcome.metrics["words_cut"]}, "longer than 256 bytes' in json.dumps(outcome.view.plain())


def test_where_there_are_none_nothing_is_said(tmp_path: Path) -> None:
    texts = [topics[name] for name in sorted(topics)[:40]]
    outcome = tokenizer(raw_of(tmp_path, texts), tmp_path / "out", TokenizerConfig("bpe", 300), SPLIT, CORPUS)
    assert set(outcome.metrics) == {"n_vocab", "fingerprint", "val_bytes_per_token"}
    assert "cut" not in json.dumps(outcome.view.plain())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_nothing_written(tmp_path: Path, number: int) -> None:
    raw = raw_of(tmp_path, [letters(100_000, seed) for seed in range(100)])
    yaml = YAML(typ="safe")
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["tokenizer"] = {"kind": "bpe", "vocab_size": 50_000}
    yaml.dump(params, tmp_path / "params.yaml")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path), "GPTCORE_TRACKING": "off"}
    command = [sys.executable, "-m", "pipeline", "tokenizer", "--raw", str(raw), "--out", "out"]
    terminal, ours = os.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    child = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=ours, stderr=ours)
    os.close(ours)
    told = read_until(terminal, "documents read, making the vocabulary of them for")
    child.send_signal(number)
    start = time.monotonic()
    code = child.wait(60)
    told += read_until(terminal, "\0")
    assert time.monotonic() - start < 15  # below two seconds, Python's own end included, on a quiet machine
    assert "Traceback" not in told
    if number == signal.SIGINT:
        assert (code, told.count("error: tokenizer: stopped; nothing was written, run it again")) == (130, 1)
    else:
        assert code == -signal.SIGTERM
    assert not [path for path in tmp_path.rglob("*out*") if "cache" not in path.parts]
    assert not (tmp_path / "data" / "metrics").exists()
    open_verified(raw)


def read_until(terminal: int, words: str) -> str:
    """What is written to a terminal until ``words`` come, or its end."""
    text = ""
    while words not in text:
        try:
            text += os.read(terminal, 4096).decode("utf-8", "replace")
        except OSError:  # nobody has it open any more
            break
    return text
