"""A checkpoint as other programs load it, with a model card and a proof that nothing was lost.

Each format that ``export.formats`` names is written and then read back by the program that it is for, which must
compute what our model computes (`exporters/parity.py`); what differs is refused and nothing is written.  What the
checkpoint is for, its manifest says: the stage that made it put it there.
"""

from pathlib import Path
from typing import Any

from gptcore.artifact import write_atomically, write_json
from gptcore.errors import DataError, ParameterError
from pipeline import project
from pipeline.contract.stage import In, Out
from pipeline.exporters import EXPORTERS, Exported, Exporter
from pipeline.exporters.card import model_card
from pipeline.exporters.parity import Parity, compare
from pipeline.settings.export import ExportConfig
from pipeline.store.checkpoint import Checkpoint
from pipeline.store.outputs import Export
from pipeline.store.view import Headline, Note, Outcome, Show, Table, View

NAME = __name__.rpartition(".")[2]


def export(checkpoint: In, out: Out, cfg: ExportConfig) -> Outcome:
    """Write the model in ``checkpoint`` to ``out``, proven equal under the programs that read it."""
    source = Checkpoint.open(checkpoint)
    exported = _exported(source)
    _check_folders(cfg.formats)
    with Export.create(out, {"stage": source.fact("stage")}, {"checkpoint": source.content_hash}) as draft:
        proofs = {name: _write(draft, EXPORTERS[name], exported, cfg, checkpoint) for name in cfg.formats}
        card = model_card(source, exported, proofs[cfg.formats[0]])
        write_atomically(draft / "README.md", card.encode())
        size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
    first = proofs[cfg.formats[0]].statement()
    others = {name: proofs[name].statement() for name in cfg.formats[1:]}
    metrics = {**first, **others, "parameters": exported.model.n_params(), "bytes": size}
    command = source.about.command.format(project.relative(out))
    return Outcome(metrics, _view(out, command, proofs, metrics), [out / "README.md", out / "parity.json"])


def _check_folders(formats: list[str]) -> None:
    folders = {name: EXPORTERS[name].folder for name in formats}
    if len(set(folders.values())) < len(folders):
        raise ParameterError(f"{NAME}.formats: expected a folder for each, found {folders}; leave one of them out")


def _exported(source: Checkpoint) -> Exported:
    model, tokenizer = source.load(), source.tokenizer
    pad_id = getattr(model, "pad_id", tokenizer.eot)
    if pad_id != tokenizer.eot:
        raise DataError(
            f"{source.path / 'config.json'}: pad_token_id: expected the end-of-text id {tokenizer.eot}, which the "
            f"tokenizer pads with, found {pad_id}; run the stage that made the checkpoint again"
        )
    return Exported(model, tokenizer, source.about)


def _write(draft: Path, exporter: Exporter, exported: Exported, cfg: ExportConfig, checkpoint: Path) -> Parity:
    directory = draft / exporter.folder
    exporter.write(directory, exported)
    return prove(directory, exporter, exported, cfg, checkpoint)


def prove(directory: Path, exporter: Exporter, exported: Exported, cfg: ExportConfig, checkpoint: Path) -> Parity:
    """Write ``parity.json`` into ``directory``; raises ``DataError`` if its reader computes another function."""
    reader = exporter.reader(directory)
    parity = compare(reader, exported.model, exported.tokenizer, cfg.parity_texts, cfg.parity_tokens)
    if problems := parity.problems():
        raise DataError(
            f"{checkpoint}: not exported, because under {parity.against} {'; '.join(problems)}; check that the "
            "installed versions are those of requirements.lock"
        )
    counts = {"texts": parity.texts, "tokens": parity.tokens, "new_tokens": parity.new_tokens}
    setting = {"dtype": "float32", "tolerance": parity.tolerance}
    write_json(directory / "parity.json", setting | counts | parity.statement())
    return parity


def _view(out: Path, command: str, proofs: dict[str, Parity], metrics: dict[str, Any]) -> View:
    first = next(iter(proofs.values()))
    headline = Headline(
        f"export {out.name}",
        first.bound,
        "logit difference",
        f"against {first.against} in float32",
        "Largest between the export, read by the program that it is for, and the model here; token ids, greedy texts "
        "and labels agree.",
        "text",
    )
    columns: list[tuple[str, Show]] = [
        ("directory", "code"),
        ("format", "text"),
        ("read by", "text"),
        ("logit difference", "text"),
        ("texts", "number"),
        ("tokens", "number"),
        ("parameters", "number"),
        ("size", "bytes"),
    ]
    rows = [
        [project.relative(out), name, p.against, p.bound, p.texts, p.tokens, metrics["parameters"], metrics["bytes"]]
        for name, p in proofs.items()
    ]
    return View("Exports", [headline], [Table("", columns, rows), Note(f"`{command}`")])
