"""Bits that flip under artifacts, and larger damage, told by the routine that reads them, in this process.

A trial copies a small artifact, damages one of its files and reads it as stages do.  The reader must raise one of our
errors that names the file.  "Latest" of a training's states must pass the damaged one over and say so.  A trial takes
some milliseconds; what a damaged artifact looks like to a user is tried in `flips_outside`.
"""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from gptcore import checkpoint
from gptcore.artifact import MANIFEST
from gptcore.errors import GPTCoreError
from gptcore.model import GPT
from gptcore.optim import Optimizers
from pipeline.store.artifact import Artifact
from pipeline.store.checkpoint import Checkpoint
from pipeline.store.outputs import Export
from pipeline.store.raw import Raw
from pipeline.store.splits import SPLITS
from pipeline.store.tokens import Tokens
from pipeline.store.vocabulary import Vocabulary
from pipeline.store.windows import Windows
from tests.faults import damage, small
from tests.faults.campaign import Campaign, Scene
from tests.faults.damage import Damage


@dataclass(frozen=True)
class Kind:
    """Of artifact."""

    name: str
    folders: tuple[str, ...]
    """Of what was prepared: a trial copies one of them."""
    prepare: Callable[[Path], None]
    read: Callable[[Path], object]
    """As its readers do; raises ``GPTCoreError`` where something is wrong."""
    files: str = "**/*"
    """What is damaged."""


def trial(scene: Scene, kind: Kind, faults: tuple[damage.Do, ...]) -> str | None:
    """Damage a copy and read it."""
    folder = scene.rng.choice(kind.folders)
    copy = scene.folder / folder
    shutil.copytree(scene.shared / folder, copy)
    done = scene.rng.choice(faults)(scene.rng, _files(copy, kind.files))
    return told(done, lambda: kind.read(copy))


def trial_behind_the_back(scene: Scene, kind: Kind) -> str | None:
    """Damage a copy right after it was verified, and read it again: a process may remember what it has verified."""
    folder = scene.rng.choice(kind.folders)
    copy = scene.folder / folder
    shutil.copytree(scene.shared / folder, copy)
    kind.read(copy)
    done = damage.flip(scene.rng, _files(copy, kind.files), keep_times=scene.rng.random() < 0.5)
    return told(done, lambda: kind.read(copy))


def told(done: Damage, read: Callable[[], object]) -> str | None:
    """None where reading ends in one of our errors that names a damaged file; else what happened."""
    try:
        read()
    except GPTCoreError as error:
        if any(path.name in str(error) for path in done.files):
            return None
        return f"{done}: told without the file's name: {error}"
    except Exception as error:
        return f"{done}: {type(error).__name__}: {error}"
    return f"{done}: silent"


def read_raw(path: Path) -> None:
    _ = Raw.open(path).entries


def read_vocabulary(path: Path) -> None:
    _ = Vocabulary.open(path).tokenizer


def read_tokens(path: Path) -> None:
    opened = Tokens.open(path)
    for split in SPLITS:
        opened.documents(split)


def read_windows(path: Path) -> None:
    opened = Windows.open(path)
    for split in SPLITS:
        opened.stream(split)


def read_checkpoint(path: Path) -> None:
    opened = Checkpoint.open(path)
    opened.load()
    _ = opened.tokenizer


def read_states(states: Path) -> None:
    """The newest is damaged: loading it is refused, and the latest is the one before, with a warning."""
    older, newer = sorted(states.iterdir())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        latest = checkpoint.latest(states)
    if latest == older and any("damaged" in str(each.message) for each in caught):
        checkpoint.load(newer, *_training())


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


@cache
def _training() -> tuple[GPT, Optimizers]:
    return small.training()


def _everything(root: Path) -> None:
    small.texts(root)
    small.model_artifacts(root)


KINDS = (
    Kind("raw", ("raw",), small.texts, read_raw),
    Kind("vocabulary", ("tokenizer",), small.texts, read_vocabulary),
    Kind("tokens", ("tokens",), small.texts, read_tokens),
    Kind("windows", ("windows",), small.texts, read_windows),
    Kind("checkpoint", ("checkpoint",), small.model_artifacts, read_checkpoint),
    Kind("training-state", ("states",), small.model_artifacts, read_states, "step-00000002/*"),
    Kind("export", ("export",), small.model_artifacts, Export.open),
    Kind("manifest", small.ARTIFACTS, _everything, Artifact.open, f"**/{MANIFEST}"),
)
ANY = Kind("any", small.ARTIFACTS, _everything, Artifact.open)


def campaigns(kind: Kind) -> list[Campaign]:
    """Flips of a kind, and larger damage."""
    return [
        Campaign(
            f"flips-{kind.name}",
            f"a flipped bit in {kind.name} is told by its reader, with the file's name",
            full=1000,
            selection=100,
            trial=partial(trial, kind=kind, faults=(damage.flip,)),
            prepare=kind.prepare,
        ),
        Campaign(
            f"damage-{kind.name}",
            f"files of {kind.name} that are cut, longer, blanked, gone or exchanged are told by its reader, by name",
            full=250,
            selection=25,
            trial=partial(trial, kind=kind, faults=damage.LARGER),
            prepare=kind.prepare,
        ),
    ]


CAMPAIGNS = [
    *(campaign for kind in KINDS for campaign in campaigns(kind)),
    Campaign(
        "flips-after-verification",
        "a bit that flips after the process has verified the artifact is told when it is opened again",
        full=1000,
        selection=100,
        trial=partial(trial_behind_the_back, kind=ANY),
        prepare=_everything,
    ),
]
