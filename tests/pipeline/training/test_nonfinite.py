"""Numbers that are none: never in a saved state nor in a result, and told with step, documents and the last good state.

Every objective, both optimizers, both number formats, with and without accumulation.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gptcore import checkpoint
from gptcore.artifact import open_verified
from gptcore.config import GPTConfig
from gptcore.data import ShuffledBatches, WindowDataset
from gptcore.errors import NonFiniteLossError
from gptcore.model import GPT, Classifier
from gptcore.objectives import Objective
from gptcore.objectives.classification import Classification
from gptcore.objectives.next_token import NextToken
from gptcore.objectives.response import Response
from gptcore.ranges import Checked
from gptcore.train import TrainConfig
from pipeline.store.windows import Windows
from pipeline.tracking.tracker import NullTracker
from pipeline.training import run as training
from tests.pipeline.training import tiny

ROWS = [[(7 * i + j) % 61 for j in range(3 + i % 9)] for i in range(40)]


def language_model() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=61, context_length=16, d_model=24, n_layer=2, n_head=3))


def next_token() -> tuple[torch.nn.Module, Objective]:
    tokens = np.arange(2000, dtype=np.int64) % 61
    return language_model(), NextToken(ShuffledBatches(WindowDataset(tokens, 16, 16), 4, seed=5))


def classification() -> tuple[torch.nn.Module, Objective]:
    model = Classifier(language_model(), ["a", "b"], pad_id=60)
    return model, Classification(ROWS, [i % 2 for i in range(40)], 4, 60, seed=5)


def response() -> tuple[torch.nn.Module, Objective]:
    return language_model(), Response([(row[:-1], row[1:]) for row in ROWS], 4, 60, seed=5)


OBJECTIVES = {make.__name__: make for make in (next_token, classification, response)}
Make = Callable[[], tuple[torch.nn.Module, Objective]]


def run(model: torch.nn.Module, objective: Objective, evaluate: Any = dict, **changes: Any) -> None:
    """A training that looks after every fourth step and saves after every third."""
    config = TrainConfig(**{"max_steps": 12, "learning_rate": 1e-3, "dtype": "float32", **changes})
    training.run(
        "pipeline.stages.pretrain",
        model,
        objective,
        config,
        training.Cadence(eval_every=4, save_every=3),
        evaluate=evaluate,
        identity={},
        tracker=NullTracker(),
        name_of=lambda row: f"row {row}",
    )


def good_states(project: Path) -> list[str]:
    """The saved states, each looked at: whole, and every number in it finite."""
    states = sorted((project / "data/.scratch/pretrain").glob("*/step-*"))
    for state in states:
        open_verified(state, checkpoint.KIND)
        for path in state.glob("*.safetensors"):
            assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())
    return [state.name for state in states]


def rows_of(objective: Any, *batches: int) -> str:
    return "; ".join(f"row {row}" for number in batches for row in objective.indices(number))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_poisoned_weight_is_noticed_at_the_next_step(
    project: Path, objective: str, optimizer: str, dtype: str, accumulation: int
) -> None:
    model, goal = OBJECTIVES[objective]()

    def poison() -> dict[str, float]:
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        return {}

    changes = {"optimizer": optimizer, "dtype": dtype, "accumulation_steps": accumulation}
    with pytest.raises(NonFiniteLossError) as error:
        run(model, goal, poison, **changes)
    first = ", batch 1 of 3" if accumulation == 3 else ""
    assert f"pretrain: step 5{first}: loss nan nats: expected finite numbers" in str(error.value)
    assert f"It read {rows_of(goal, 4 * accumulation)}." in str(error.value)
    assert re.search(r"The last good state is data/\.scratch/pretrain/\w+/step-00000003\. ", str(error.value))
    assert good_states(project) == ["step-00000003"]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_none_names_all_batches_of_its_step(
    project: Path, objective: str, optimizer: str, value: float
) -> None:
    model, goal = OBJECTIVES[objective]()
    seen: list[torch.Tensor] = []
    weight = list(model.parameters())[1]

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        seen.append(gradient)
        return torch.full_like(gradient, value) if len(seen) == 9 else gradient

    weight.register_hook(spoil)
    with pytest.raises(NonFiniteLossError, match=r"pretrain: step 5: loss [\d.]+ nats, gradient norm (nan|inf)") as e:
        run(model, goal, accumulation_steps=2, optimizer=optimizer)
    assert f"It read {rows_of(goal, 8, 9)}." in str(e.value)
    assert good_states(project) == ["step-00000003"]


@pytest.mark.parametrize(
    ("optimizer", "rates"), [("adamw", {"learning_rate": 1e38}), ("muon", {"muon_learning_rate": 1e38})]
)
def test_an_update_that_overflows_is_not_saved(
    project: Path, optimizer: str, rates: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite loss and gradient, and no finite weight after it: the last step, which no other step follows."""
    monkeypatch.setattr(Checked, "__post_init__", lambda self: None)  # which refuses such rates
    model, goal = next_token()
    with pytest.raises(NonFiniteLossError, match=r"step 1: the weight \S+ is no longer finite.*not saved") as error:
        run(model, goal, optimizer=optimizer, max_steps=1, weight_decay=1e3, **rates)
    assert "No state was saved before it" in str(error.value)
    assert good_states(project) == []


def test_a_measurement_that_is_no_number_is_not_saved(project: Path) -> None:
    model, goal = next_token()
    with pytest.raises(NonFiniteLossError, match=r"pretrain: step 4: val_loss nan: expected a finite number"):
        run(model, goal, lambda: {"val_loss": float("nan")})
    assert good_states(project) == ["step-00000003"]


def test_an_objective_that_tells_no_rows_is_fine(project: Path) -> None:
    class Silent:
        def __init__(self) -> None:
            self.goal = next_token()[1]

        def batches(self, start: int) -> Iterator[Any]:
            return self.goal.batches(start)

        def loss(self, model: Any, batch: Any) -> Any:
            return model(batch[0]).sum() * float("nan"), {}

    with pytest.raises(NonFiniteLossError) as error:
        run(language_model(), Silent())
    assert "It read" not in str(error.value)


# --- through the front door ------------------------------------------------------------------------------


def test_a_learning_rate_of_a_million_ends_with_one_message_and_the_repaired_one_works(project: Path) -> None:
    tiny.set_params(project, learning_rate=1e6, max_steps=100, save_every=2)
    done = tiny.command(project, *tiny.PRETRAIN)
    assert done.returncode == 70, done.stderr
    assert "Traceback" not in done.stderr
    told = done.stderr[done.stderr.index("error: pretrain: step ") :]
    step = int(told.split()[3].rstrip(":"))
    assert step > 2
    assert "the weights were not updated. Lower the learning rate" in told
    assert not (project / "model").exists()
    states = good_states(project)
    assert f"{states[-1]}. The same command goes on from there" in told
    names = re.findall(r"window (\d+) \(([^)]+)\)", told)
    assert len(names) == tiny.TRAINING["batch_windows"]
    text = Windows.open(project / "windows")
    order = ShuffledBatches(WindowDataset(text.stream("train"), 16, 8), 4, seed=3)
    assert [int(number) for number, _ in names] == order.indices(step - 1).tolist()
    ids = (project / "windows" / "train-documents.json").read_text()
    assert all(f'"{document}"' in ids for _, documents in names for document in documents.split(", "))
    again = tiny.command(project, *tiny.PRETRAIN)
    assert again.returncode == 70
    assert f"pretrain: going on from step {int(states[-1][5:])} of 100" in again.stdout + again.stderr
    assert again.stderr[again.stderr.index("error: ") :] == told
    tiny.set_params(project)
    mended = tiny.command(project, *tiny.PRETRAIN)
    assert mended.returncode == 0, mended.stderr
    assert (project / "model" / "model.safetensors").is_file()


def test_the_documents_of_a_window_are_those_that_its_tokens_belong_to(project: Path) -> None:
    text = Windows.open(project / "windows")
    starts = np.load(project / "windows" / "train-starts.npy")
    ids = text.documents_in("train", 0, len(text.stream("train")))
    assert text.documents_in("train", 0, 2) == ids[:1]
    assert text.documents_in("train", int(starts[3]), int(starts[3]) + 1) == ids[3:4]
    assert text.documents_in("train", int(starts[3]) - 2, int(starts[3]) + 1) == ids[2:4]
    assert text.documents_in("train", int(starts[-1]), int(starts[-1]) + 5) == ids[-1:]
