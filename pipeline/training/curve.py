"""The curve of a training as CSV: a row a step, an empty cell where nothing was measured."""

from pathlib import Path

from pipeline import project
from pipeline.store.plain import write_csv
from pipeline.store.view import Curves

ALWAYS = ("step", "loss", "learning_rate", "grad_norm")
"""What every step has; the columns of a curve begin with them."""


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    measured = {key for row in curve for key in row} - set(ALWAYS)
    columns = [*ALWAYS, *sorted(measured)]  # not in the order of a row, which a resumed run reads from JSON
    write_csv(path, columns, ({**row, "step": int(row["step"])} for row in curve))


def shown(path: Path, measured: dict[str, str], unit: str) -> list[Curves]:
    """Loss, what was measured beside it under titles and units of its own, and the learning rate."""
    file = project.relative(path)
    lines = {"loss": "training"} | ({"val_loss": "validation"} if "val_loss" in measured else {})
    others = [
        Curves(name.removeprefix("val_").replace("_", " "), file, {name: "validation"}, own)
        for name, own in measured.items()
        if name != "val_loss"
    ]
    return [
        Curves("loss", file, lines, unit, smoothed=("loss",)),
        *others,
        Curves("learning rate", file, {"learning_rate": "learning rate"}, ""),
        Curves("gradient norm before clipping", file, {"grad_norm": "gradient norm"}, "", smoothed=("grad_norm",)),
    ][:3]
