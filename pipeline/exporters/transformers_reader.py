"""The other side of a proof: `transformers`, and what it makes of a model directory.

A family that only this library reads (``foreign`` is false) has a fresh load of it as the other side, which shows
that nothing was lost on the way through the files, and no more than that.  Importing `transformers` takes four
seconds.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptcore.errors import DataError
from gptcore.formats.directory import format_of, is_classifier, load_classifier, load_model, read_config
from gptcore.inference.generate import generate
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from pipeline.exporters.parity import Reader


@contextmanager
def silent_transformers() -> Iterator[Any]:
    """The module `transformers`, drawing no progress bars and warning of nothing."""
    import transformers
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def reader_of(directory: Path) -> AbstractContextManager[Reader]:
    """Whoever can read the model directory best: `transformers`, or a fresh load by this library."""
    fields = read_config(directory)
    classifier = is_classifier(fields)
    if not format_of(fields).foreign:
        return nullcontext(_FreshLoad(directory, classifier))
    return _in_transformers(directory, classifier)


@contextmanager
def _in_transformers(directory: Path, classifier: bool) -> Iterator[Reader]:
    with silent_transformers() as transformers:
        yield _Transformers(transformers, directory, classifier)


class _Transformers:
    """`transformers` with what its Auto classes make of a directory."""

    name = "transformers"

    def __init__(self, transformers: Any, directory: Path, classifier: bool) -> None:
        kind = "AutoModelForSequenceClassification" if classifier else "AutoModelForCausalLM"
        self.tokenizer = _load(transformers.AutoTokenizer, directory)
        self._plain = transformers.GenerationConfig  # not the model's own, which may punish repetition
        self.model = _load(getattr(transformers, kind), directory, dtype=torch.float32).eval()
        self.labels = [label for _, label in sorted(self.model.config.id2label.items())]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def logits(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        return self.model(ids, attention_mask=None if real is None else real.long()).logits

    def greedy(self, ids: Tensor, new_tokens: int, eot: int) -> Tensor:
        mask = torch.ones_like(ids)
        plain = self._plain(max_new_tokens=new_tokens, do_sample=False, eos_token_id=eot, pad_token_id=eot)
        return self.model.generate(ids, attention_mask=mask, generation_config=plain)


class _FreshLoad:
    """This library with what it finds in the files."""

    name = "gptcore"

    def __init__(self, directory: Path, classifier: bool) -> None:
        self.tokenizer = Tokenizer.load(directory)
        self.model = load_classifier(directory) if classifier else load_model(directory)
        self.labels = list(self.model.labels)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.tokenizer.encode(text) for text in texts]

    def logits(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        return self.model(ids)  # padding on the right needs no mask

    def greedy(self, ids: Tensor, new_tokens: int, eot: int) -> Tensor:
        assert isinstance(self.model, GPT)
        return generate(self.model, ids, new_tokens, stop=eot)


def _load(factory: Any, directory: Path, **options: Any) -> Any:
    """What ``factory`` makes of ``directory``, asking no hub for anything."""
    try:
        return factory.from_pretrained(str(directory), local_files_only=True, **options)
    except Exception as error:  # its own errors are of many kinds and only one matters: it can't be read
        raise DataError(f"{directory}: transformers can't load it: {error}") from error
