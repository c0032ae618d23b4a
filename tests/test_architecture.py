"""Keeps the house in order: imports one way, edges in one file each, dvc.yaml equal to the code."""

import ast
import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.__main__ import OUTPUTS
from pipeline.code import NO_BYTES, closure

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(p for package in ("gptcore", "pipeline") for p in (ROOT / package).rglob("*.py"))
WIRING = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def wiring(stage: str) -> dict[str, Any]:
    """The stage's entry; of a ``foreach``, the body."""
    return WIRING[stage].get("do", WIRING[stage])


def imported(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules |= {node.module or ""}
    return modules


def top_level(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported(path)}


def test_the_library_knows_nothing_of_the_pipeline_and_its_tools() -> None:
    foreign = {
        "pipeline",
        "mlflow",
        "prefect",
        "dvc",
        "pandas",
        "pyarrow",
        "ruamel",
        "yaml",
        "requests",
        "transformers",
    }
    for path in (ROOT / "gptcore").glob("*.py"):
        assert not top_level(path) & foreign, path


@pytest.mark.parametrize(("package", "home"), [("mlflow", "pipeline/tracking.py"), ("prefect", "pipeline/flow.py")])
def test_an_edge_has_one_file(package: str, home: str) -> None:
    users = {p.relative_to(ROOT).as_posix() for p in SOURCES if package in top_level(p)}
    assert users == {home}


FORBIDDEN_CALLS = {"eval", "exec", "pickle.load", "pickle.loads", "torch.load", "yaml.load", "joblib.load"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_executes_from_data(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not top_level(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not {ast.unparse(call.func) for call in calls} & FORBIDDEN_CALLS
    for call in calls:
        for keyword in call.keywords:
            allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value in (False, None)
            assert keyword.arg != "allow_pickle" or allowed


def test_no_import_cycles() -> None:
    graph = {p: imported(p) for p in SOURCES}
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in SOURCES}

    def top_of(path: Path) -> set[Path]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {
            name
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
            )
        }
        return {names[m] for m in modules if m in names}

    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " → ".join(p.name for p in (*trail, path))
        if path not in done:
            for target in top_of(path):
                visit(target, (*trail, path))
            done.add(path)

    for path in graph:
        visit(path, ())


def test_every_stage_of_the_code_is_wired_and_the_other_way_round() -> None:
    assert set(WIRING) == set(params.STAGES)


@pytest.mark.parametrize("stage", params.STAGES)
def test_flags_are_deps_and_outs(stage: str) -> None:
    entry = wiring(stage)
    command, *rest = entry["cmd"].split(" --")
    assert command == f"python -m pipeline {stage}"
    flags = dict(part.strip().split(" ", 1) for part in rest)
    hints = typing.get_type_hints(params.stage_function(stage))
    paths = {name for name in inspect.signature(params.stage_function(stage)).parameters if hints[name] is Path}
    metrics = flags.pop("metrics", f"data/metrics/{stage}.json")
    assert set(flags) == paths
    plots = {next(iter(p)) if isinstance(p, dict) else p for p in entry.get("plots", [])}
    assert {flags[name] for name in paths & set(OUTPUTS)} == {*entry["outs"], *plots}
    data_deps = {d for d in entry["deps"] if d.startswith(("data/", "${"))}
    assert {flags[name] for name in paths - set(OUTPUTS)} == data_deps
    assert [next(iter(m)) for m in entry["metrics"]] == [metrics]


@pytest.mark.parametrize("stage", params.STAGES)
def test_params_are_the_dataclasses(stage: str) -> None:
    assert set(wiring(stage).get("params", [])) == set(params.stage_sections(stage))


@pytest.mark.parametrize("stage", params.STAGES)
def test_code_deps_are_the_import_closure(stage: str) -> None:
    stated = {d for d in wiring(stage)["deps"] if not d.startswith(("data/", "${"))}
    assert stated == {*closure(f"pipeline.stages.{stage}"), "numerics.lock"}, (
        f"dvc.yaml, stage {stage}: paste the output of `python -m pipeline deps {stage}`"
    )


@pytest.mark.parametrize("stage", params.STAGES)
def test_a_stage_says_what_it_is(stage: str) -> None:
    assert len(wiring(stage)["desc"]) > 20
    assert inspect.getdoc(inspect.getmodule(params.stage_function(stage)))


def test_files_that_cannot_change_bytes_exist() -> None:
    for path, reason in NO_BYTES.items():
        assert (ROOT / path).is_file(), path
        assert len(reason) > 10


def test_params_yaml_is_valid_and_complete() -> None:
    params.check_all(ROOT / "params.yaml")


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_profile_is_a_valid_overlay(profile: Path, tmp_path: Path) -> None:
    merged = params.read(ROOT / "params.yaml")
    for section, values in params.read(profile).items():
        assert set(values) <= set(merged[section]), f"{profile.name}: {section}"
        merged[section] |= values
    YAML(typ="safe").dump(merged, tmp_path / "params.yaml")
    params.check_all(tmp_path / "params.yaml")


def test_numerics_lock_is_part_of_the_lock() -> None:
    def pins(path: Path) -> set[str]:
        return {line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"^[\w.-]+==", line)}

    numerics = pins(ROOT / "numerics.lock")
    assert numerics <= pins(ROOT / "requirements.lock")
    assert "torch==2.13.0" in numerics


def test_every_file_opens_with_what_it_is() -> None:
    for path in SOURCES:
        if path.stat().st_size:
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
