"""One stage from the command line: its flags, its parameters, its record.

``python -m pipeline STAGE --flags`` gets its flags from the signature of the stage's function
(`contract/stage.py`), so a stage runs the same by hand, under ``dvc repro`` and under Prefect, and no flag is declared
twice.  What the function gives back goes to ``data/metrics/<stage>.json`` and ``data/views/<stage>.json``; a
``--metrics`` with another name names the view too.
"""

import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from gptcore.artifact import write_json
from gptcore.errors import DiskError, ParameterError
from pipeline import locks, project
from pipeline.contract import params, provenance, source_code
from pipeline.contract.stage import (
    OWN,
    StageFunction,
    from_params,
    function_of,
    inputs,
    outputs,
    section,
    takes_tracker,
)
from pipeline.orchestration.dvc_files import code_dependencies
from pipeline.store.artifact import content_hash
from pipeline.store.plain import as_plain
from pipeline.store.view import Outcome
from pipeline.tracking import runs
from pipeline.tracking.watch import newest_state

METRICS = Path("data/metrics")


def command(stage: str) -> click.Command:
    """The stage as a command."""
    function = function_of(stage)
    file = click.Path(path_type=Path)
    flags = [_flag(name, stage, file, name in from_params(function)) for name in _paths(function)]
    where = click.Option(["--metrics"], type=file, default=METRICS / f"{stage}.json", show_default=True)
    return click.Command(
        stage,
        params=[*flags, where],
        callback=lambda metrics, **given: run(stage, given, metrics),
        help=sys.modules[function.__module__].__doc__ or stage,
        short_help=(sys.modules[function.__module__].__doc__ or stage).splitlines()[0],
    )


def run(stage: str, given: dict[str, Path | None], metrics: Path) -> None:
    """Check the parameters, wait for whoever writes the same outputs, run, record.

    A path that was not given is the parameter of its name.
    """
    configs = params.load_stage(stage)
    _check_that_it_fits(stage, configs)
    paths = {name: path or Path(getattr(configs[OWN], name)) for name, path in given.items()}
    lock = project.scratch() / "stages" / f"{metrics.stem}.lock"
    with locks.held(lock, what=f"another {metrics.stem}", progress=newest_state):
        _run_alone(stage, paths, configs, metrics)


def _check_that_it_fits(stage: str, configs: dict[str, Any]) -> None:
    """Of a training, with what the other sections say of it: in a process of its own, which may load their stages."""
    if hasattr(configs.get(OWN), "max_steps"):
        command = [sys.executable, "-m", "pipeline.orchestration.fits", stage]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": project.module_path()}, check=False)
        if done.returncode in (ParameterError.exit_code, DiskError.exit_code):
            sys.exit(done.returncode)


def _run_alone(stage: str, given: dict[str, Path], configs: dict[str, Any], metrics: Path) -> None:
    function, name = function_of(stage), metrics.stem
    hashes = {flag: content_hash(given[flag]) for flag in inputs(function)}
    sections = {section(stage, parameter): as_plain(values) for parameter, values in configs.items()}
    execution = provenance.Execution(stage, _code(stage), sections, hashes)
    with runs.run(name, execution.fingerprint, sections, hashes, {"code": execution.code[:16]}) as tracker:
        with redirect_stdout(sys.stderr):  # what libraries print is progress, not a result
            outcome = function(**given, **configs, **dict.fromkeys(takes_tracker(function), tracker))
        _write(outcome, metrics)
        for path in outcome.files:
            tracker.artifact(path, path.name)
        execution.end(name, outcome.metrics)
        tracker.finish(outcome.metrics)


def _write(outcome: Outcome, metrics: Path) -> None:
    write_json(metrics, outcome.metrics)
    write_json(metrics.parents[1] / "views" / metrics.name, outcome.view.plain())


def _code(stage: str) -> str:
    """Hash of what dvc.yaml says the stage is made of; without a dvc.yaml, of what its module imports."""
    if names := code_dependencies(stage, project.root()):
        return source_code.code_hash(names, project.root())
    return source_code.closure_hash(function_of(stage).__module__)


def _flag(name: str, stage: str, file: click.ParamType, is_parameter: bool) -> click.Option:
    told = f"instead of the parameter {stage}.{name}" if is_parameter else None
    return click.Option([f"--{name}", name], type=file, required=not is_parameter, help=told)


def _paths(function: StageFunction) -> list[str]:
    return [*inputs(function), *outputs(function)]
