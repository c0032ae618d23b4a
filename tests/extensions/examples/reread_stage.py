"""A stage: the pretrained model reads the validation text too; its checkpoint is exported like any other."""

from dataclasses import dataclass

from gptcore import runtime
from gptcore.data import ShuffledBatches, WindowDataset
from gptcore.formats.directory import save_model
from gptcore.objectives.next_token import NextToken
from gptcore.train import TrainConfig
from pipeline.contract.stage import In, Out
from pipeline.store.checkpoint import About, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.store.view import Headline, Outcome, View
from pipeline.store.windows import Windows
from pipeline.tracking.tracker import Tracker
from pipeline.training import run as training
from pipeline.training.curve import shown, write_curve


@dataclass(frozen=True, kw_only=True)
class RereadConfig(TrainConfig):
    batch_windows: int


def reread(foundation: In, windows: In, out: Out, curve: Out, cfg: RereadConfig, tracker: Tracker) -> Outcome:
    runtime.configure()
    start, text = Checkpoint.open(foundation), Windows.open(windows)
    model, dataset = start.load_language_model(), WindowDataset(text.stream("val"), text.context_length, text.stride)
    objective = NextToken(ShuffledBatches(dataset, cfg.batch_windows, cfg.seed))
    inputs, every = {"foundation": start.content_hash, "windows": text.content_hash}, training.Cadence(10**6, 10)
    trained = training.run(__name__, model, objective, cfg, every, evaluate=dict, identity=inputs, tracker=tracker)
    write_curve(curve, trained.curve)
    metrics = {"train_loss": round(trained.mean_loss(), 4)}
    about = About("{} that read on", "Continues a text.", "reread", "python -m gptcore generate {} Once", "…")
    with Checkpoint.create(out, {"stage": "reread", "about": as_plain(about), "metrics": metrics}, inputs) as draft:
        save_model(model, draft, start.tokenizer)
    headline = Headline("reread", metrics["train_loss"], "nats/token", "", "Mean loss of the last steps.")
    return Outcome(metrics, View("Reading on", [headline], shown(curve, {}, "nats/token")), [curve])
