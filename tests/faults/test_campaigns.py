"""The campaigns of flips and hostile input notice what they are made to notice.

A few trials of each pass on the readers as they are; on a reader that trusts, crashes, hangs, eats memory or executes,
they fail.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gptcore.errors import DataError
from gptcore.tokenizer import Tokenizer
from pipeline.store.tokens import Tokens
from tests.faults import bounded, damage, hostile_json, hostile_tensors, hostile_vocabulary, hostile_yaml
from tests.faults.campaign import Campaign, Scene
from tests.faults.campaigns import flips, hostile_data, hostile_models
from tests.faults.damage import Damage
from tests.faults.hostile_directory import CANARY


def scene(tmp_path: Path, campaign: Campaign | None, number: int, shared: Path | None = None) -> Scene:
    folder = tmp_path / f"trial-{number}"
    folder.mkdir(parents=True)
    return Scene(random.Random(f"{campaign and campaign.name}/{number}"), number, folder, shared or tmp_path / "shared")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = tmp_path_factory.mktemp("shared")
    flips._everything(shared)
    return shared


@pytest.mark.parametrize("campaign", flips.CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_damage_is_told(campaign: Campaign, prepared: Path, tmp_path: Path) -> None:
    for number in range(2):
        assert campaign.trial(scene(tmp_path, campaign, number, prepared)) is None


@pytest.mark.parametrize("kind", flips.KINDS, ids=lambda kind: kind.name)
def test_a_reader_that_trusts_fails(kind: flips.Kind, prepared: Path, tmp_path: Path) -> None:
    trusting = replace(kind, read=lambda path: None)
    failed = flips.trial(scene(tmp_path, None, 0, prepared), trusting, (damage.flip,))
    assert str(failed).endswith("silent")


def test_a_reader_that_names_nothing_or_has_a_bug_fails(tmp_path: Path) -> None:
    def refuse() -> None:
        raise DataError("something is wrong")

    done = Damage("bit 1", (tmp_path / "a.bin",))
    assert "without the file's name" in str(flips.told(done, refuse))
    assert "KeyError" in str(flips.told(done, lambda: {}["x"]))
    assert "silent" in str(flips.told(done, lambda: None))


@pytest.mark.parametrize("do", [damage.flip, *damage.LARGER], ids=lambda do: do.__name__)
def test_damage_changes_something_and_names_it(do: damage.Do, tmp_path: Path) -> None:
    for name, content in (("a", b"a" * 99), ("b", b"b" * 50), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = do(random.Random(1), sorted(before))
    changed = [path for path in before if not path.exists() or path.read_bytes() != before[path]]
    assert set(changed) == set(done.files) != set()


def test_a_flip_can_keep_the_times(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    os.utime(path, ns=(1, 2))
    damage.flip(random.Random(1), [path], keep_times=True)
    assert (path.stat().st_mtime_ns, path.read_bytes() == b"a") == (2, False)


# --- children ---------------------------------------------------------------------------------------------------------


def refused() -> None:
    raise DataError("no")


def compute() -> None:
    until = time.process_time() + 1.2 * bounded.SECONDS
    while time.process_time() < until:
        pass


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda: 7, None),
        (refused, None),
        (lambda: {}["x"], "KeyError: 'x'"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "killed by SIGSEGV"),
        (lambda: len(b"x" * (600 << 20)) and None, "MB above the baseline"),
        (lambda: bytearray(5 << 30) and None, "MemoryError"),
        (compute, "s of processor time"),
        (lambda: time.sleep(60), "hung for"),
        (lambda: os._exit(3), "ended without a word"),
    ],
    ids=["returns", "refuses", "bug", "crash", "memory", "too much memory", "time", "hang", "exit"],
)
def test_a_child_is_watched(function: Callable[[], Any], problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "PATIENCE_SECONDS", 5.0)
    monkeypatch.setattr(bounded, "slowness", lambda: 1.0)
    ended = bounded.run(function)
    found = ended.problem()
    assert found is None if problem is None else problem in str(found)
    assert ended.refused == ("no" if function is refused else "")


# --- hostile input ----------------------------------------------------------------------------------------------------


def test_what_a_hostile_model_may_do(tmp_path: Path) -> None:
    """Of the judgement alone: which ends of a child are good ones."""
    good = bounded.Ended(65, "", "", f"error: {tmp_path}/model/config.json: no\n", 0.1, 1.0)
    judged = partial(hostile_models.judged, directory=tmp_path / "model")
    assert judged(good) is None
    assert "without a file's name" in str(judged(replace(good, output="error: no\n")))
    assert "control character" in str(judged(replace(good, output=good.output + "\x1b[2J")))
    assert "characters" in str(judged(replace(good, output=good.output * 10_000)))
    assert "exit code 1" in str(judged(replace(good, value=1)))
    assert "TypeError" in str(judged(replace(good, crash="TypeError: x")))


def test_a_hostile_model_that_is_read_as_another_function_is_noticed(tmp_path: Path) -> None:
    hostile_models.prepare(tmp_path)
    path = tmp_path / "gptcore" / "model"
    assert hostile_models._function(path, "gptcore") is None
    config = path / "config.json"
    good = config.read_text(encoding="utf-8")
    config.write_text(good.replace('"n_head": 2', '"n_head": 4'), encoding="utf-8")
    assert hostile_models._function(path, "gptcore") is None  # lawful: another model over the same weights
    config.write_text(good, encoding="utf-8")
    weights = path / "model.safetensors"
    header, numbers = hostile_tensors.parts(weights.read_bytes())
    weights.write_bytes(hostile_tensors.joined(header, bytes(4) + numbers[4:]))
    assert hostile_models._function(path, "gptcore") == "accepted as another function"


def test_a_reader_that_executes_is_noticed(tmp_path: Path) -> None:
    (tmp_path / CANARY).touch()
    ended = bounded.Ended(None, f"{tmp_path}/x/file: no", "", "", 0.1, 1.0)
    assert hostile_data.judged(ended, tmp_path / "x" / "file", "a pickle") == "a pickle: code was executed"


def test_a_token_reader_that_takes_everything_fails(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 2  # an id that the vocabulary hasn't
    assert hostile_data.trial_parquet(scene(tmp_path / "as it is", None, number, prepared)) is None
    monkeypatch.setattr(Tokens, "documents", lambda self, split: [])
    assert "accepted" in str(hostile_data.trial_parquet(scene(tmp_path / "trusting", None, number, prepared)))


JSON = b'{"a": 1, "b": {"c": [1, 2]}, "d": "x"}'
YAML = (Path(__file__).resolve().parents[2] / "params.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("spoil", sorted({*hostile_json.SPOILERS}, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_json_is_changed_by_its_seed_alone(spoil: hostile_json.Spoil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile_json, "HUGE", 1000)
    found = [spoil(random.Random(seed), JSON) for seed in range(8)]
    assert found == [spoil(random.Random(seed), JSON) for seed in range(8)]
    assert any(content != JSON for content in found)


@pytest.mark.parametrize("spoil", sorted({*hostile_yaml.SPOILERS}, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_yaml_is_changed_by_its_seed_alone(spoil: hostile_yaml.Spoil) -> None:
    found = [spoil(random.Random(seed), YAML, "/nowhere") for seed in range(2)]
    assert found == [spoil(random.Random(seed), YAML, "/nowhere") for seed in range(2)]
    assert any(content != YAML.encode() for content in found)


def test_a_smaller_vocabulary_is_whole(prepared: Path, tmp_path: Path) -> None:
    """Else it would be refused for another reason than its size."""
    good = Tokenizer.load(prepared / "tokenizer")
    good.save(tmp_path)
    hostile_vocabulary.smaller(random.Random(1), tmp_path)
    assert Tokenizer.load(tmp_path).n_vocab < good.n_vocab
