"""Training states: every bit comes back, damage is skipped with a warning, and no kill costs the newest whole one."""

import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gptcore import checkpoint
from gptcore.artifact import open_verified
from gptcore.errors import DataError, NonFiniteLossError
from gptcore.machine.identity import state_hash
from gptcore.model import Classifier
from gptcore.objectives.classification import classification_loss
from gptcore.objectives.next_token import language_loss
from gptcore.optim import OptimConfig, Optimizers, build_optimizers


def trained(make_gpt, optimizer: str = "adamw", **changes) -> tuple[torch.nn.Module, Optimizers]:
    """A model after one update, and its optimizers with something in them."""
    model = make_gpt(**changes)
    optimizers = build_optimizers(model, OptimConfig(optimizer=optimizer))
    ids = torch.arange(16)[None]
    language_loss(model, (ids[:, :-1], ids[:, 1:])).backward()
    optimizers.step()
    return model, optimizers


# --- there and back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("changes", [{}, {"tie_weights": False, "bias": False}])
def test_every_bit_comes_back(make_gpt, tmp_path: Path, optimizer: str, changes: dict):
    model, optimizers = trained(make_gpt, optimizer, **changes)
    saved = checkpoint.save(tmp_path, model, optimizers, 250, {"curve": [{"loss": 1.5}], "note": "ä"})
    assert saved == tmp_path / "step-00000250"
    other = make_gpt(seed=9, **changes)
    restored = build_optimizers(other, OptimConfig(optimizer=optimizer))
    assert checkpoint.load(saved, other, restored) == (250, {"curve": [{"loss": 1.5}], "note": "ä"})
    assert state_hash(other) == state_hash(model)
    state = restored.state_tensors()
    assert state.keys() == optimizers.state_tensors().keys() != set()
    assert all(torch.equal(state[name], tensor) for name, tensor in optimizers.state_tensors().items())
    if changes == {}:
        assert other.head.weight is other.token_embedding.weight


def test_parameters_that_were_never_used_have_no_state_and_need_none(make_gpt, tmp_path: Path):
    """Such as the head of a language model within a classifier."""

    def new() -> tuple[Classifier, Optimizers]:
        model = Classifier(make_gpt(tie_weights=False), ["a", "b"], pad_id=60)
        return model, build_optimizers(model, OptimConfig())

    model, optimizers = new()
    classification_loss(model, (torch.arange(8)[None], torch.tensor([1]))).backward()
    optimizers.step()
    state = checkpoint.save(tmp_path, model, optimizers, 1)
    other, restored = new()
    assert checkpoint.load(state, other, restored)[0] == 1
    assert state_hash(other) == state_hash(model)
    assert restored.state_tensors().keys() == optimizers.state_tensors().keys()


def test_what_is_frozen_is_not_saved_and_must_be_there(make_gpt, tmp_path: Path):
    def new(seed: int) -> tuple[torch.nn.Module, Optimizers]:
        model = make_gpt(seed)
        model.requires_grad_(False).blocks[1].requires_grad_(True)
        return model, build_optimizers(model, OptimConfig())

    model, optimizers = new(0)
    ids = torch.arange(16)[None]
    language_loss(model, (ids[:, :-1], ids[:, 1:])).backward()
    optimizers.step()
    state = checkpoint.save(tmp_path, model, optimizers, 1)
    with safe_open(state / "weights.safetensors", "pt") as file:
        assert all(name.startswith("blocks.1.") for name in file.keys())  # noqa: SIM118
    assert all(name.startswith("blocks.1.") for name in checkpoint.hashes(model, optimizers))
    same, restored = new(0)
    checkpoint.load(state, same, restored)
    assert state_hash(same) == state_hash(model)
    other, elsewhere = new(9)
    before = state_hash(other)
    with pytest.raises(DataError, match=f"{state}: the weights that it was trained beside are not this model's"):
        checkpoint.load(state, other, elsewhere)
    assert state_hash(other) == before
    whole = make_gpt()
    with pytest.raises(DataError, match=f"{state}: the weights are of another model"):
        checkpoint.load(state, whole, build_optimizers(whole, OptimConfig()))


def test_resuming_is_the_newest_loaded(make_gpt, tmp_path: Path):
    model, optimizers = trained(make_gpt)
    assert checkpoint.resume(tmp_path, model, optimizers) is None
    checkpoint.save(tmp_path, *trained(make_gpt, bias=False), 1)
    saved = checkpoint.save(tmp_path, model, optimizers, 2, {"note": 1}, {"curve.jsonl": b"long"})
    other = make_gpt(seed=9)
    restored = build_optimizers(other, OptimConfig())
    found = checkpoint.resume(tmp_path, other, restored)
    assert found is not None
    assert (found.directory, found.config) == (saved, {"step": 2, "facts": {"note": 1}})
    assert (saved / "curve.jsonl").read_bytes() == b"long"
    assert state_hash(other) == state_hash(model)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_hashes_tell_every_tensor_and_are_those_of_the_restored_state(make_gpt, tmp_path: Path, optimizer: str):
    model, optimizers = trained(make_gpt, optimizer)
    before = checkpoint.hashes(model, optimizers)
    assert before.keys() >= {"ln_f.weight", "ln_f.weight:exp_avg", "ln_f.weight:step"}
    assert len(before) == len(dict(model.named_parameters())) + len(optimizers.state_tensors())
    other = make_gpt(seed=9)
    restored = build_optimizers(other, OptimConfig(optimizer=optimizer))
    assert checkpoint.hashes(other, restored).keys() == dict(other.named_parameters()).keys()
    checkpoint.load(checkpoint.save(tmp_path, model, optimizers, 1), other, restored)
    assert list(checkpoint.hashes(other, restored).items()) == list(before.items())
    with torch.no_grad():
        other.ln_f.weight[0] += 1e-6
    after = checkpoint.hashes(other, restored)
    assert [name for name in after if after[name] != before[name]] == ["ln_f.weight"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["weight", "optimizer state"])
def test_a_number_that_is_none_is_not_saved(make_gpt, tmp_path: Path, value: float, where: str):
    model, optimizers = trained(make_gpt)
    checkpoint.save(tmp_path, model, optimizers, 1)
    spoiled = model.ln_f.weight if where == "weight" else optimizers.members[0].state[model.ln_f.weight]["exp_avg_sq"]
    with torch.no_grad():
        spoiled[3] = value
    with pytest.raises(NonFiniteLossError, match=f"step 2: the {where} .* is no longer finite, so the state was not"):
        checkpoint.save(tmp_path, model, optimizers, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_weights_whose_norm_overflows_are_saved(make_gpt, tmp_path: Path):
    """Large and finite: it is not for a saved state to judge them."""
    model, optimizers = trained(make_gpt)
    with torch.no_grad():
        model.ln_f.weight.fill_(3e38)
    assert checkpoint.save(tmp_path, model, optimizers, 1).is_dir()


def test_equal_states_are_equal_files(make_gpt, tmp_path: Path):
    for name in ("one", "two"):
        checkpoint.save(tmp_path / name, *trained(make_gpt), 7)
    for path in sorted((tmp_path / "one" / "step-00000007").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / "step-00000007" / path.name).read_bytes()


def test_paths_may_be_strings(make_gpt, tmp_path: Path):
    model, optimizers = trained(make_gpt)
    checkpoint.save(str(tmp_path), model, optimizers, 1)
    assert checkpoint.load(str(checkpoint.latest(str(tmp_path))), model, optimizers)[0] == 1


# --- foreign states --------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"vocab_size": 62}, {"n_layer": 3}, {"bias": False}, {"tie_weights": False}])
def test_a_state_of_another_model_is_refused_and_nothing_loaded(make_gpt, tmp_path: Path, changes: dict):
    state = checkpoint.save(tmp_path, *trained(make_gpt), 1)
    other = make_gpt(seed=9, **changes)
    before = state_hash(other)
    with pytest.raises(DataError, match=f"{state}: the weights are of another model"):
        checkpoint.load(state, other, build_optimizers(other, OptimConfig()))
    assert state_hash(other) == before


@pytest.mark.parametrize(("saved", "wanted"), [("adamw", "muon"), ("muon", "adamw")])
def test_a_state_of_another_optimizer_is_refused_and_nothing_loaded(make_gpt, tmp_path: Path, saved: str, wanted: str):
    state = checkpoint.save(tmp_path, *trained(make_gpt, saved), 1)
    other = make_gpt(seed=9)
    before = state_hash(other)
    optimizers = build_optimizers(other, OptimConfig(optimizer=wanted))
    with pytest.raises(DataError, match=f"{state}: the state is of another optimizer"):
        checkpoint.load(state, other, optimizers)
    assert (state_hash(other), optimizers.state_tensors()) == (before, {})


def test_another_artifact_is_no_state(make_gpt, tmp_path: Path):
    from gptcore.artifact import commit

    with commit(tmp_path / "step-00000001", kind="tokens", config={}):
        pass
    with pytest.raises(DataError, match="expected an artifact of kind 'training state', found 'tokens'"):
        checkpoint.load(tmp_path / "step-00000001", *trained(make_gpt))


# --- the newest ------------------------------------------------------------------------------------------


@pytest.fixture
def states(make_gpt, tmp_path: Path) -> Path:
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, *trained(make_gpt), step)
    return tmp_path


def test_the_newest_is_the_highest_step_whatever_the_clock_says(make_gpt, states: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint.latest(states) == states / "step-00000100"
        checkpoint.save(states, *trained(make_gpt), 11)
        assert checkpoint.latest(states) == states / "step-00000100"
        assert checkpoint.latest(states / "nowhere") is None


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _empty(state: Path) -> None:
    shutil.rmtree(state)
    state.mkdir()


def _file_instead(state: Path) -> None:
    shutil.rmtree(state)
    state.touch()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit in the weights": lambda state: _flip(state / "weights.safetensors"),
    "a flipped bit in the optimizer": lambda state: _flip(state / "optimizer.safetensors"),
    "a flipped bit in the manifest": lambda state: _flip(state / "manifest.json"),
    "half the weights": lambda state: (state / "weights.safetensors").write_bytes(b"half"),
    "no optimizer": lambda state: (state / "optimizer.safetensors").unlink(),
    "no manifest": lambda state: (state / "manifest.json").unlink(),
    "a stranger": lambda state: (state / "stranger").touch(),
    "nothing in it": _empty,
    "a file of that name": _file_instead,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_skipped_with_a_warning(make_gpt, states: Path, damage: str):
    DAMAGES[damage](states / "step-00000100")
    with pytest.warns(UserWarning, match=r"skipping a damaged training state: .*step-00000100"):
        newest = checkpoint.latest(states)
    assert newest == states / "step-00000010"
    assert checkpoint.load(newest, *trained(make_gpt))[0] == 10


def test_with_all_damaged_there_is_none(states: Path):
    for state in states.iterdir():
        _flip(state / "weights.safetensors")
    with pytest.warns(UserWarning, match="skipping a damaged training state") as seen:
        assert checkpoint.latest(states) is None
    assert len(seen) == 3


def test_a_draft_is_no_state(states: Path):
    shutil.copytree(states / "step-00000100", states / ".step-00000200.tmp-1")
    assert checkpoint.latest(states) == states / "step-00000100"


@pytest.mark.parametrize(("keep", "left"), [(0, []), (1, [100]), (2, [10, 100]), (3, [9, 10, 100]), (9, [9, 10, 100])])
def test_pruning_keeps_the_highest(states: Path, keep: int, left: list[int]):
    (states / "lock").touch()
    checkpoint.prune(states, keep=keep)
    assert sorted(p.name for p in states.iterdir()) == ["lock", *(f"step-{step:08d}" for step in left)]
    checkpoint.prune(states / "nowhere", keep=1)


def test_pruning_goes_on_where_a_kill_left_off(states: Path):
    newest = max(p for p in states.iterdir() if p.is_dir())
    (states / "step-00000001").mkdir()
    (states / "step-00000001" / "weights.safetensors").touch()
    checkpoint.prune(states, keep=1)
    assert [p.name for p in states.iterdir() if p.is_dir()] == [newest.name]


# --- kills and full disks --------------------------------------------------------------------------------

# Forks trainers that do nothing but save states, ever newer ones, and kills each some milliseconds after its first;
# prints the newest whole step after each kill, and the highest that the trainer reported as saved.
KILLED = """
import os, signal, sys, time, warnings
import torch
torch.set_num_threads(1)
from gptcore import checkpoint
from gptcore.config import GPTConfig
from gptcore.model import GPT
from gptcore.optim import OptimConfig, build_optimizers

os.fsync = lambda descriptor: None  # a kill loses nothing that the kernel has; so there are more saves to kill
model = GPT(GPTConfig(vocab_size=3000, context_length=16, d_model=64, n_layer=2, n_head=2))
optimizers = build_optimizers(model, OptimConfig())
for p in model.parameters():
    p.grad = torch.ones_like(p)
optimizers.step()
warnings.simplefilter("error")
for milliseconds in map(float, sys.argv[1:]):
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        newest = checkpoint.latest("states")
        step = checkpoint.load(newest, model, optimizers)[0] if newest else 0
        while True:
            step += 1
            checkpoint.save("states", model, optimizers, step)
            os.write(writer, step.to_bytes(4, "big"))
            checkpoint.prune("states", keep=2)
    os.close(writer)
    told = os.read(reader, 4)
    time.sleep(milliseconds / 1000)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told += os.read(reader, 1 << 16)
    os.close(reader)
    newest = checkpoint.latest("states")
    step = checkpoint.load(newest, model, optimizers)[0] if newest else 0
    print(step, int.from_bytes(told[-4:], "big"))
"""


@pytest.mark.parametrize("kills", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_no_kill_leaves_an_unreadable_newest_state(tmp_path: Path, run_python, kills: int):
    delays = random.Random(kills)
    done = run_python("-c", KILLED, *(str(delays.uniform(0, 30)) for _ in range(kills)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(lines) == kills
    assert all(whole >= reported for whole, reported in lines)
    assert [whole for whole, _ in lines] == sorted({whole for whole, _ in lines}), "each goes on from the one before"
    open_verified(tmp_path / "states" / f"step-{lines[-1][0]:08d}", checkpoint.KIND)


FILL_THE_DISK = """
import resource, sys
import torch
from gptcore import checkpoint
from gptcore.config import GPTConfig
from gptcore.errors import DiskError
from gptcore.formats.directory import save_model
from gptcore.model import GPT
from gptcore.optim import OptimConfig, build_optimizers

model = GPT(GPTConfig(vocab_size=100, context_length=8, d_model=16, n_layer=1, n_head=1))
optimizers = build_optimizers(model, OptimConfig())
checkpoint.save("states", model, optimizers, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for save in (lambda: checkpoint.save("states", model, optimizers, 2), lambda: save_model(model, "exported")):
    try:
        save()
    except DiskError as error:
        print(error)
print(checkpoint.latest("states"))
"""


def test_a_full_disk_is_one_sentence_and_the_former_state_stays(tmp_path: Path, run_python):
    done = run_python("-c", FILL_THE_DISK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, two, newest = done.stdout.splitlines()
    assert all("the disk is full" in line for line in (one, two))
    assert newest == "states/step-00000001"
    assert [p.name for p in (tmp_path / "states").iterdir()] == ["step-00000001"]
