"""Token rows → one memory-mappable stream a split, cut into windows of a context and a stride.

A window is ``context_length`` tokens and the same shifted by one; windows start every ``stride`` tokens.
The windows themselves are not written: with the stream, the context and the stride each is a slice.
"""

from gptcore.data import WindowDataset
from gptcore.errors import DataError
from pipeline.contract.stage import In, Out
from pipeline.settings.windows import WindowsConfig
from pipeline.store.plain import as_plain
from pipeline.store.splits import SPLITS
from pipeline.store.tokens import Tokens
from pipeline.store.view import Outcome, Table, View
from pipeline.store.windows import Windows, open_stream, write_stream


def windows(tokens: In, out: Out, cfg: WindowsConfig) -> Outcome:
    source = Tokens.open(tokens)
    rows = {split: source.documents(split) for split in SPLITS}
    n_train = sum(len(row.ids) + 1 for row in rows["train"]) + 1
    if n_train < cfg.context_length + 1:
        raise DataError(
            f"windows.context_length = {cfg.context_length}: longer than the training text of {n_train} tokens; "
            f"set it to at most {max(1, n_train - 1)} in params.yaml, or add text"
        )
    facts = {**source.manifest.config, **as_plain(cfg)}
    with Windows.create(out, facts, {"tokens": source.content_hash}) as draft:
        n_tokens = {split: write_stream(draft, split, rows[split], source.eot) for split in SPLITS}
    counts = {split: len(WindowDataset(open_stream(out, split), cfg.context_length, cfg.stride)) for split in SPLITS}
    metrics = {"windows": counts, "tokens": n_tokens, "overlap": round(1 - cfg.stride / cfg.context_length, 4)}
    title = f"Windows of {cfg.context_length} tokens, one every {cfg.stride}"
    rows_shown = [[split, counts[split], n_tokens[split]] for split in SPLITS]
    table = Table(title, [("split", "text"), ("windows", "number"), ("tokens", "number")], rows_shown)
    return Outcome(metrics, View("Data", blocks=[table]))
