"""Model directories that mean harm, through ``python -m gptcore generate`` and ``classify``.

A trial changes a good directory of each family, in one way, and gives it to the command line in a child.  It must be
refused in one message that names a file of it, or, where the change is harmless, be read right: the logits are then
those of the good model, with what ``config.json`` lawfully says otherwise (another number of heads over the same
weights is another model, and no reader can tell that it wasn't meant).
"""

import json
import math
import re
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from gptcore.__main__ import main
from gptcore.formats.containers import CONFIG_FILE
from gptcore.formats.directory import load_any
from gptcore.formats.table import Model
from gptcore.model import GPT, Classifier
from tests.faults import bounded, small
from tests.faults.bounded import Ended
from tests.faults.campaign import Campaign, Scene
from tests.faults.hostile_directory import CANARY, SPOILERS
from tests.faults.hostile_vocabulary import smaller

LAWFUL = {
    "gpt2": {"n_head": "n_head", "layer_norm_epsilon": "layer_norm_eps"},
    "llama": {"rms_norm_eps": "layer_norm_eps"},
    "gptcore": {"n_head": "n_head", "layer_norm_eps": "layer_norm_eps", "rope_theta": "rope_theta"},
}
"""Family → what of config.json is another model over the same weights → our name of it."""
REFUSALS = (64, 65)
LONGEST_MESSAGE = 20_000
MUST_BE_REFUSED = (smaller,)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def prepare(shared: Path) -> None:
    words = small.vocabulary()
    for family in small.FAMILIES:
        for kind in ("model", "classifier"):
            small.model_directory(shared / family / kind, family, kind == "classifier", words)
            problem = judged(bounded.run(partial(use, shared / family / kind)), shared / family / kind)
            assert problem is None, f"the good {family} {kind} is not read: {problem}"


def trial(scene: Scene) -> str | None:
    family = scene.rng.choice(list(small.FAMILIES))
    kind = scene.rng.choice(("model", "model", "classifier"))
    directory = scene.folder / kind
    shutil.copytree(scene.shared / family / kind, directory)
    spoil = SPOILERS[scene.number % len(SPOILERS)]
    what = f"{family} {kind}, {spoil(scene.rng, directory)}"
    warm()
    ended = bounded.run(partial(use, directory))
    problem = judged(ended, directory)
    if (scene.folder / CANARY).exists():
        problem = "code was executed"
    if problem is None and ended.value == 0:
        problem = "accepted" if spoil in MUST_BE_REFUSED else _function(directory, family)
    return problem and f"{what}: {problem}"


def use(directory: Path) -> int:
    """As a user would; the exit code."""
    if directory.name == "classifier":
        return main(["classify", str(directory), "oil prices"])
    return main(["generate", str(directory), "once", "--max-new-tokens", "2", "--temperature", "0"])


def judged(ended: Ended, directory: Path) -> str | None:
    """None where it ended as it may: done, or refused in a message that names the directory."""
    if problem := ended.problem():
        return problem
    if ended.value != 0 and ended.value not in REFUSALS:
        return f"exit code {ended.value}"
    if ended.value == 0 and directory.name != "classifier":
        return None  # what a model says may hold any character
    if found := _CONTROL.search(ended.output):
        return f"the control character {found[0]!r} reaches the terminal"
    if ended.value == 0:
        return None
    if str(directory) not in ended.output:
        return f"refused without a file's name: {ended.output[:200]!r}"
    if len(ended.output) > LONGEST_MESSAGE:
        return f"a message of {len(ended.output)} characters"
    return None


@cache
def warm() -> None:
    """Import in this process whatever its children would import, each for itself."""
    torch.set_num_threads(1)
    for family in small.FAMILIES:
        small.model(family, classifier=True)(_ids(4))


def _function(directory: Path, family: str) -> str | None:
    """What is wrong with what an accepted directory computes."""
    ended = bounded.run(partial(_same, directory, family))
    if ended.crash or ended.refused:
        return f"accepted, but then {ended.crash or ended.refused}"
    return None if ended.value else "accepted as another function"


@torch.inference_mode()
def _same(directory: Path, family: str) -> bool:
    loaded, wanted = load_any(directory), _wanted(directory, family)
    ids = _ids(min(12, loaded.config.context_length, wanted.config.context_length))
    return type(loaded) is type(wanted) and torch.equal(loaded(ids), wanted(ids))


def _wanted(directory: Path, family: str) -> Model:
    """The good model, made with what its config.json lawfully says otherwise now."""
    good = small.model(family, directory.name == "classifier")
    try:
        stored = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        changes = {ours: stored[theirs] for theirs, ours in LAWFUL[family].items() if _is_number(stored.get(theirs))}
        config = replace(good.config, **changes)
    except ValueError:
        return good
    wanted: Model = GPT(config)
    if isinstance(good, Classifier):
        pad = stored.get("pad_token_id")
        known = type(pad) is int and 0 <= pad < config.vocab_size
        wanted = Classifier(wanted, good.labels, pad if known else good.pad_id)
    wanted.load_state_dict(good.state_dict())
    return wanted.eval()


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _ids(n: int) -> torch.Tensor:
    return (torch.arange(n) * 7 % (small.N_IDS - 1))[None]


CAMPAIGNS = [
    Campaign(
        "hostile-models",
        "a hostile model directory is refused in one message within 1 s and 512 MB, executes nothing, or is read right",
        full=300,
        selection=60,
        trial=trial,
        prepare=prepare,
    )
]
