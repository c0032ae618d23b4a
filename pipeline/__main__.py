"""``python -m pipeline STAGE --flags``, and the verbs round the stages.

Only the stage that is asked for is imported: the others' libraries would cost seconds.  Exit codes follow
sysexits.h (`gptcore.errors`).
"""

import sys
from pathlib import Path

import click

from gptcore.errors import GPTCoreError, ParameterError, disk_error
from gptcore.untrusted import visible
from pipeline import project
from pipeline.contract import params
from pipeline.contract.stage import STAGES, function_of

TARGETS = click.argument("targets", nargs=-1)
PROFILE = click.option("--profile", default="", help="overlays of params.yaml: files in profiles/, as in tiny+own")
RECORDED = click.option("--profile", default="default", show_default=True, help="which record it is")
FORCE = click.option("--force", is_flag=True, help="run the stages even if nothing changed")


class Commands(click.Group):
    """The verbs below, and every stage, imported when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*super().list_commands(context), *STAGES.names()]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.commands and name in STAGES:
            from pipeline.run_stage import command

            return command(name)
        return super().get_command(context, name)


@click.group(cls=Commands, help=__doc__)
def app() -> None: ...


@app.command()
@TARGETS
@FORCE
@PROFILE
def flow(targets: tuple[str, ...], force: bool, profile: str) -> None:
    """Run the DAG as a Prefect flow."""
    from pipeline.orchestration import runner

    runner.prepare(profile)
    sys.exit(runner.run(runner.flow, targets, force))


@app.command()
@TARGETS
@FORCE
@PROFILE
def repro(targets: tuple[str, ...], force: bool, profile: str) -> None:
    """Run the DAG with DVC; check parameters first, and say at the end what came out and whether it is the same."""
    from pipeline.orchestration import runner

    runner.prepare(profile)
    sys.exit(runner.run(runner.plain, targets, force))


@app.command()
def check() -> None:
    """Check params.yaml: every problem at once, and whether the trainings fit this machine."""
    from pipeline.orchestration import fits, parameter_paths

    sections = params.check_all()
    parameter_paths.check(project.root())
    taken = fits.check(sections, project.root())
    print("params.yaml: ok", *taken, sep="\n")


@app.command()
@click.argument("names", required=False)
def profile(names: str | None) -> None:
    """Bring profiles into force without running: tiny, tiny+own, none.  Without NAMES say what is in force."""
    from pipeline.contract import profiles
    from pipeline.orchestration.busy import nothing_running

    if names:
        with nothing_running(wait=True):
            profiles.apply(names)
    print(profiles.told())


@app.command()
@click.argument("stage")
def deps(stage: str) -> None:
    """Print the files that a stage imports; its entry in dvc.yaml must name each, or a folder that holds it."""
    from pipeline.contract import source_code

    for path in source_code.closure(function_of(stage).__module__):
        print(f"{path}  (can't change bytes)" if source_code.is_exception(path) else path)


@app.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def exp(arguments: tuple[str, ...]) -> None:
    """Run `dvc exp run ARGUMENTS`, with --temp and --queue too on the text in data/own, which git does not hold."""
    from pipeline.orchestration import experiments

    sys.exit(experiments.run(arguments))


@app.command("diff-runs")
@click.argument("runs", nargs=-1)
def diff_runs(runs: tuple[str, ...]) -> None:
    """Compare two runs, each by its project folder: the first step and tensor that differ, and what may be why."""
    from pipeline.orchestration.diff_runs import compare

    if len(runs) != 2:
        raise ParameterError(f"diff-runs: expected two folders, A and B, found {len(runs)}")
    found = compare(*map(Path, runs))
    print(found.text)
    sys.exit(0 if found.equal else 1)


@app.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="make again what can be made")
def verify(path: Path | None, repair: bool) -> None:
    """Hold everything on disk, or what lies at PATH, against manifests, dvc.lock and git; exit code 65 on damage."""
    from pipeline.orchestration.integrity import command

    sys.exit(command.verify(project.root(), path, repair))


@app.command()
@click.argument("stage", required=False)
def why(stage: str | None) -> None:
    """Say in words why each stage (or STAGE and those above it) would run, or that it would not."""
    from pipeline.orchestration.why import explain

    print(explain(project.root(), [stage] if stage else []))


@app.command()
@click.argument("what", nargs=-1)
def clean(what: tuple[str, ...]) -> None:
    """Show what scratch, caches and trackers hold and what deleting it costs; with WHAT…, delete that."""
    from pipeline.orchestration import clean as store

    print(store.free(project.root(), what) if what else store.show(project.root()))


@app.command()
@RECORDED
def record(profile: str) -> None:
    """Make this run the record that others are compared with: data/records/PROFILE.json, for git."""
    from pipeline.orchestration.integrity import recording

    made = recording.record(project.root(), profile)
    print(f"{made.path}: {made.size} of {len(made.stages)} stages, machine class {made.machine_class}; commit it")


@app.command()
@RECORDED
def reproduce(profile: str) -> None:
    """Run the last commit in a fresh clone and compare every file and tensor with its record."""
    from pipeline.orchestration.integrity import reproduce

    sys.exit(reproduce.reproduce(project.root(), profile))


@app.command()
def ui() -> None:
    """Start Prefect's and MLflow's user interfaces on this machine."""
    from pipeline.orchestration import pages

    pages.ui()


@app.command()
def report() -> None:
    """Render data/report/index.html from what the stages wrote."""
    from pipeline.orchestration import dvc_files, dvc_graph
    from pipeline.report.page import render

    root = Path.cwd()
    print(render(root, Path("data/report"), dvc_graph.stages(), dvc_files.switched_off(root)))


def main() -> None:
    project.quiet()
    try:
        app(prog_name="python -m pipeline")
    except GPTCoreError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a full or read-only disk can show itself anywhere; all else is a bug
        if (told := disk_error(error)) is None:
            raise
        print(f"error: {visible(str(told))}", file=sys.stderr)
        sys.exit(told.exit_code)


if __name__ == "__main__":
    main()
