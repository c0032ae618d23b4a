"""``python -m benchmarks``: speed and memory against other libraries, as ratios measured in one run.

Prints tables as it goes.  With ``--out FILE.json`` the results are written after every part, with the page
(FILE.md) and the plot (FILE-scaling.svg) beside them, so that a run that is stopped leaves what it had.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import plot, render
from benchmarks.duel import QUICK, Pace
from benchmarks.process import Bench
from benchmarks.run import PARTS, default_peers, failures, run
from gptcore.artifact import write_atomically

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
RESULTS = Path("docs/benchmarks.json")


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    only: Annotated[list[str] | None, typer.Option(help=f"a part, repeatable: {', '.join(PARTS)}")] = None,
    against: Annotated[str, typer.Option(help="only duels with candidates whose name contains this")] = "",
    rounds: Annotated[int, typer.Option(min=0, help="rounds of every duel (0: by time, 3 to 7)")] = 0,
    quick: Annotated[bool, typer.Option(help="short turns, to see that it works; the numbers are no results")] = False,
    threads: Annotated[int, typer.Option(min=1, help="of every process")] = 2,
    peers: Annotated[Path | None, typer.Option(help="where `make bench` installed the peers")] = None,
    out: Annotated[Path | None, typer.Option(help="a .json file to write; default: nothing is written")] = None,
) -> None:
    if context.invoked_subcommand:
        return
    if unknown := set(only or ()) - set(PARTS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected parts of {', '.join(PARTS)}")
    pace = _pace(rounds, quick)
    bench = Bench(threads, (peers or default_peers()).resolve())
    parts = [name for name in PARTS if not only or name in only]
    document: dict[str, Any] = {}
    for document in run(bench, pace, parts, quick=quick, against=against, say=_say):
        print(render.part(document, list(document["parts"])[-1]), flush=True)
        if out is not None:
            write(document, out)
    print(render.targets_table(document))
    for line in failures(document):
        _say(f"NOT MEASURED: {line}")
    raise typer.Exit(1 if failures(document) else 0)


@app.command("render")
def again(results: Annotated[Path, typer.Argument(help="what a run wrote")] = RESULTS) -> None:
    """Render the page and the plot anew from a run's results."""
    write(json.loads(results.read_text(encoding="utf-8")), results)
    print(results.with_suffix(".md"))


def write(document: dict[str, Any], out: Path) -> None:
    """The results, the page and, if there is something to draw, the plot."""
    write_atomically(out, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    picture = out.with_name(f"{out.stem}-scaling.svg")
    if points := document["parts"].get("scaling", {}).get("points"):
        plot.draw(points, picture)
    page = render.page(document, picture.name if points else "")
    write_atomically(out.with_suffix(".md"), page.encode())


def _pace(rounds: int, quick: bool) -> Pace:
    pace = QUICK if quick else Pace()
    return Pace(rounds, rounds, pace.turn_seconds) if rounds else pace


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    app()
