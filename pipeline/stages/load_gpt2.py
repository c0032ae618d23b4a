"""Any model directory of a family that we compute → the foundation that fine-tuning starts from.

``load_gpt2.source`` names the directory: by default our own pretrained checkpoint, which is in GPT-2's
layout, so the same code runs every time; in the profile ``gpt2-124m`` the published weights.  Names,
shapes, number formats and finiteness are checked, and the loaded model is compared with what
`transformers` makes of the same directory: logits and greedy text.

A GGUF file is another spelling of such a directory; `transformers` is handed a copy in the family's own layout, with
the weights as they were unpacked.

gptcore's own layout, in which our checkpoints with options beyond GPT-2 are, `transformers` can't read, so it is
handed a temporary copy in the layout of the first family that is exact; where none is, the copy is read by gptcore
itself.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gptcore import runtime
from gptcore.artifact import MANIFEST, write_json
from gptcore.errors import DataError
from gptcore.formats.containers import CONFIG_FILE, container_of
from gptcore.formats.directory import (
    Format,
    format_of,
    load_model,
    load_vocabulary,
    portable,
    read_config,
    save_model,
)
from gptcore.formats.parts import WHOLE
from gptcore.formats.table import TableFormat
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from pipeline.contract.stage import In, Out
from pipeline.exporters.parity import Parity, compare
from pipeline.exporters.transformers_reader import reader_of
from pipeline.settings.load_gpt2 import LoadGpt2Config
from pipeline.store.artifact import Artifact, content_hash
from pipeline.store.checkpoint import LANGUAGE_MODEL, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.store.view import Numbers, Outcome, View

NAME = __name__.rpartition(".")[2]
PARITY_TEXTS, PARITY_TOKENS = 8, 20


def load_gpt2(source: In, out: Out, cfg: LoadGpt2Config) -> Outcome:
    runtime.configure()
    content, sources = _verified(source)
    held = _model_in(source)
    encoder, model = load_vocabulary(held), load_model(held)
    layout = format_of(read_config(held))
    with _readable(held, layout, model, encoder) as directory:
        proof = compare(reader_of(directory), model, encoder, PARITY_TEXTS, PARITY_TOKENS)
    if problems := proof.problems():
        raise DataError(f"{source}: what was loaded disagrees with `{proof.against}`: {'; '.join(problems)}")
    card = {"stage": NAME, "about": as_plain(LANGUAGE_MODEL), "sources": sources}
    with Checkpoint.create(out, card, {"source": content}) as draft:
        save_model(model, draft, encoder)
        write_json(draft / "mapping.json", _mapping(layout, model))
    metrics = {
        "parameters": model.n_params(),
        "n_layer": model.config.n_layer,
        "d_model": model.config.d_model,
        "n_vocab": model.config.vocab_size,
        **proof.statement(),
    }
    return Outcome(metrics, _view(model, proof))


def _model_in(source: Path) -> Path:
    """``source``, or the one GGUF file in it, which is how `download` keeps such a foundation."""
    files = [] if (source / CONFIG_FILE).exists() else sorted(source.glob("*.gguf"))
    return files[0] if len(files) == 1 else source


@contextmanager
def _readable(source: Path, layout: Format, model: GPT, encoder: Tokenizer) -> Iterator[Path]:
    """``source``, or a temporary copy of it in the layout that most other programs read; of a GGUF file always."""
    if layout.foreign and source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory() as copy:
        save_model(model, copy, encoder, portable(model.config))
        yield Path(copy)


def _mapping(layout: Format, model: GPT) -> list[dict[str, Any]]:
    """The table that the source was read with; ``part`` says which of our rows it is."""
    if not isinstance(layout, TableFormat):
        return []
    rows = layout.table or tuple(layout.rows(model))
    parts = [{"part": row.part.name} if row.part.name != WHOLE.name else {} for row in rows]
    names = [{"hugging_face": row.theirs, "ours": row.ours, "transposed": row.part.transposed} for row in rows]
    return [name | part for name, part in zip(names, parts, strict=True)]


def _verified(source: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """Content hash and sources: an artifact's own; else the hash of the file, or of all files of the directory."""
    if (source / MANIFEST).is_file():
        artifact = Artifact.open(source)
        return artifact.content_hash, artifact.sources
    if missing := [path for path in container_of(source).files(source) if not path.is_file()]:
        raise DataError(f"{missing[0]}: missing; set load_gpt2.source to a model directory with safetensors weights")
    return content_hash(source), {}


def _view(model: GPT, proof: Parity) -> View:
    values: list[tuple[str, Any, str]] = [
        ("parameters", model.n_params(), "of the foundation that fine-tuning starts from"),
        ("logit difference", proof.bound, f"largest, against {proof.against} in float32"),
    ]
    return View("Foundation", blocks=[Numbers(values)])
