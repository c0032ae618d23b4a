"""``python -m pipeline STAGE --flags``, and the commands round the stages.

A stage's command line is its function's signature: a ``Path`` is a flag, a dataclass is filled from
params.yaml, the tracker is handed in, and what the function returns goes to ``data/metrics/<stage>.json``.
So a stage runs the same by hand, under ``dvc repro`` and under Prefect, and no flag is declared twice.

Only the stage that is asked for is imported: the others' libraries would cost seconds.  Exit codes follow
sysexits.h (`gptcore.errors`).
"""

import inspect
import sys
import typing
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from gptcore.artifact import write_json
from gptcore.errors import GPTCoreError
from pipeline import environment, params, profiles
from pipeline.artifacts import as_plain

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
OUTPUTS = ("out", "curve", "confusion")
"""Path parameters that a stage writes; all others are inputs."""
PROFILE_HELP = "overlay of params.yaml: a file in profiles/, without .yaml"
READABLE = ("README.md", "parity.json", "mistakes.json", "answers.json")
"""Files inside an output that the tracker shows."""


@app.command()
def flow(
    targets: Annotated[list[str] | None, typer.Argument(help="stages to bring up to date (default: all)")] = None,
    force: Annotated[bool, typer.Option(help="run the stages even if nothing changed")] = False,
    profile: Annotated[str, typer.Option(help=PROFILE_HELP)] = "",
) -> None:
    """Run the DAG as a Prefect flow."""
    if profile:
        profiles.apply(profile)
    params.check_all()
    from pipeline.flow_runner import run

    raise typer.Exit(run(targets or [], force=force))


@app.command()
def repro(
    targets: Annotated[list[str] | None, typer.Argument(help="stages to bring up to date (default: all)")] = None,
    profile: Annotated[str, typer.Option(help=PROFILE_HELP)] = "",
) -> None:
    """Run the DAG with DVC, check the parameters first, and say at the end what came out and whether it is the same."""
    from pipeline.repro import repro as run

    raise typer.Exit(run(targets or [], profile))


@app.command()
def check() -> None:
    """Check params.yaml: every problem at once."""
    params.check_all()
    print("params.yaml: ok")


@app.command()
def deps(stage: Annotated[str, typer.Argument(help="a stage")]) -> None:
    """Print a stage's code dependencies as they belong into dvc.yaml."""
    from pipeline.code import closure

    for path in [*closure(f"pipeline.stages.{stage}"), "numerics.lock"]:
        print(f"      - {path}")


@app.command()
def ui() -> None:
    """Start Prefect's and MLflow's user interfaces on this machine."""
    from pipeline import ui as pages

    pages.ui()


@app.command()
def report() -> None:
    """Render data/report/index.html from what the stages wrote."""
    from pipeline.report import render

    print(render(Path.cwd(), Path("data/report")))


def stage_command(stage: str) -> Callable[..., None]:
    """The stage's function as a command: its ``Path`` parameters as flags, everything else filled in."""
    function = params.stage_function(stage)
    hints = typing.get_type_hints(function)
    paths = [name for name in inspect.signature(function).parameters if hints[name] is Path]

    def command(metrics: Path, **given: Path) -> None:
        _run_stage(stage, function, given, metrics)

    default = Path("data/metrics") / f"{stage}.json"
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[Path, typer.Option(f"--{name}")])
        for name in paths
    ]
    flags.append(
        inspect.Parameter(
            "metrics",
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[Path, typer.Option(help="where the numbers go")],
        )
    )
    command.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    command.__annotations__ = {flag.name: flag.annotation for flag in flags}
    command.__doc__ = inspect.getdoc(inspect.getmodule(function)) or stage
    return command


def _run_stage(stage: str, function: Callable[..., dict[str, Any]], given: dict[str, Path], metrics: Path) -> None:
    """Check the parameters, wait for whoever writes the same outputs, run, record."""
    from pipeline.locks import exclusive

    configs = params.load_stage(stage)
    with exclusive(environment.scratch() / "stages" / f"{metrics.stem}.lock", f"another {metrics.stem}"):
        _run_alone(stage, function, given, configs, metrics)


def _run_alone(
    stage: str,
    function: Callable[..., dict[str, Any]],
    given: dict[str, Path],
    configs: dict[str, Any],
    metrics: Path,
) -> None:
    from pipeline import provenance, tracking

    inputs = provenance.input_hashes({name: path for name, path in given.items() if name not in OUTPUTS})
    facts = provenance.Run.begin(stage, as_plain(configs), inputs)
    wants_tracker = "tracker" in inspect.signature(function).parameters
    name = metrics.stem
    with tracking.run(name, facts.fingerprint, facts.params, inputs, facts.tags()) as tracker:
        with redirect_stdout(sys.stderr):  # what libraries print is progress, not a result
            result = function(**given, **configs, **({"tracker": tracker} if wants_tracker else {}))
        write_json(metrics, result)
        for path in _worth_watching(given):
            tracker.artifact(path, path.name)
        facts.end(name, result)
        tracker.finish(result)


def _worth_watching(given: dict[str, Path]) -> list[Path]:
    """The small files among a stage's outputs that a person would open: curves, cards, mistakes, answers."""
    outputs = [given[name] for name in OUTPUTS if name in given]
    inside = [path / name for path in outputs for name in READABLE]
    return [path for path in [*outputs, *inside] if path.is_file()]


def main() -> None:
    environment.quiet()
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        for stage in params.STAGES if asked in ("", "--help") else [asked]:
            if stage in params.STAGES:
                app.command(stage, rich_help_panel="Stages")(stage_command(stage))
        app()
    except GPTCoreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
