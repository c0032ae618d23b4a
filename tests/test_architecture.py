"""Keeps the house in order: rooms know only what lies below them, edges are in one file each, no cycle anywhere."""

import ast
import inspect
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.contract import params
from pipeline.contract.profiles import apply
from pipeline.contract.stage import STAGES
from tests.house import PACKAGES, ROOT, SOURCES, imports, module_of, room_of

LONGEST_FILE = 300


def top_level(path: Path) -> set[str]:
    """The packages that a file imports, wherever in it."""
    return {module.split(".")[0] for module in imports(path)}


def test_the_library_knows_nothing_of_the_pipeline_and_its_tools() -> None:
    foreign = {
        "pipeline", "mlflow", "prefect", "dvc", "pandas", "pyarrow", "ruamel", "yaml", "requests", "transformers",
    }  # fmt: skip
    for path in SOURCES:
        if path.is_relative_to(ROOT / "gptcore"):
            assert not top_level(path) & foreign, path
            assert not re.search(r"\bdvc\b|mlflow|prefect", _code_and_messages(path), re.IGNORECASE), path


def _code_and_messages(path: Path) -> str:
    """A file without its docstrings and comments: what a user of the library can meet."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("mlflow", ["pipeline/tracking/stores/mlflow.py"]),
        ("prefect", ["pipeline/orchestration/prefect_flow.py", "pipeline/orchestration/prefect_server.py"]),
        ("dvc", ["pipeline/orchestration/dvc_graph.py", "pipeline/orchestration/dvc_program.py"]),
        ("bokeh", ["pipeline/report/charts.py"]),
        ("fcntl", ["pipeline/locks.py"]),
    ],
)
def test_an_edge_has_one_file(package: str, home: list[str]) -> None:
    users = {p.relative_to(ROOT).as_posix() for p in SOURCES if package in top_level(p)}
    assert users == set(home)


def test_private_functions_of_pytorch_are_in_one_file() -> None:
    private = re.compile(r"torch(\.\w+)*\._[a-z]")
    users = {p.relative_to(ROOT).as_posix() for p in SOURCES if private.search(_code_and_messages(p))}
    assert users == {"gptcore/torch_internals.py"}


def test_everything_that_is_imported_is_a_dependency() -> None:
    stated = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    names = {"ruamel": "ruamel.yaml", "sklearn": "scikit-learn", "dvc_data": "dvc-data", "dvc_objects": "dvc-objects"}
    library = re.search(r"^dependencies = \[(.*?)\]", stated, re.MULTILINE | re.DOTALL)
    assert library is not None
    for path in SOURCES:
        wanted = top_level(path) - set(PACKAGES) - _standard_library()
        where = library[1] if path.is_relative_to(ROOT / "gptcore") else stated
        assert not {name for name in wanted if f'"{names.get(name, name)}' not in where}, path


def _standard_library() -> set[str]:
    import sys

    return set(sys.stdlib_module_names)


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


def cycles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Each cycle that a walk meets, as its nodes."""
    done: set[str] = set()

    def visit(node: str, trail: tuple[str, ...]) -> Iterator[str]:
        if node in trail:
            yield " → ".join((*trail[trail.index(node) :], node))
        elif node not in done:
            for target in sorted(graph.get(node, ())):
                yield from visit(target, (*trail, node))
            done.add(node)

    for node in sorted(graph):
        yield from visit(node, ())


def files_graph() -> dict[str, set[str]]:
    """File → the files of ours that it imports, imports inside functions counted."""
    modules = {module_of(path): path for path in SOURCES}
    return {module_of(path): {name for name in imports(path) if name in modules} for path in SOURCES}


def rooms_graph() -> dict[str, set[str]]:
    """Room → the other rooms that its files import from."""
    rooms: dict[str, set[str]] = {}
    for module, targets in files_graph().items():
        rooms.setdefault(room_of(module), set()).update(room_of(target) for target in targets)
    return {room: targets - {room} for room, targets in rooms.items()}


def test_no_file_imports_itself_in_a_circle() -> None:
    assert list(cycles(files_graph())) == []


def test_no_room_imports_itself_in_a_circle() -> None:
    assert list(cycles(rooms_graph())) == []


STAGES_MAY_USE = {
    "contract", "corpus", "evaluation", "exporters", "project", "resume", "settings", "sources", "store", "tasks",
    "tracking", "training",
}  # fmt: skip


def test_stages_know_nothing_of_what_runs_and_shows_them() -> None:
    used = {room.removeprefix("pipeline.") for room in rooms_graph()["pipeline.stages"] if room.startswith("pipeline.")}
    assert used <= STAGES_MAY_USE
    for room in STAGES_MAY_USE:
        above = {"pipeline.orchestration", "pipeline.report", "pipeline.stages", "pipeline.run_stage"}
        assert not rooms_graph().get(f"pipeline.{room}", set()) & above, room


def test_nothing_outside_the_stages_knows_a_stage_by_its_name() -> None:
    """A name that is a common word too (`windows`, `export`) counts where it is a string of its own."""
    known = set(STAGES.names())
    for path in SOURCES:
        if path.is_relative_to(ROOT / "pipeline/stages") or path.is_relative_to(ROOT / "gptcore"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        named = {name for name in known if name in strings}
        assert named <= KINDS_OF_ARTIFACTS.get(path.relative_to(ROOT).as_posix(), set()), path


KINDS_OF_ARTIFACTS = {
    "pipeline/store/vocabulary.py": {"tokenizer"},
    "pipeline/store/windows.py": {"windows", "tokenizer"},
    "pipeline/store/tokens.py": {"tokenizer"},
    "pipeline/store/outputs.py": {"export"},
    "pipeline/report/summary.py": {"export"},
    "pipeline/sources/wheel.py": {"download"},
    "pipeline/store/checkpoint.py": {"pretrain"},
}
"""Kinds and facts of artifacts that share their word with the stage that makes them; the tag of a card for hubs;
the folder of exports; the verb of pip."""


def test_files_are_short() -> None:
    long = {p.relative_to(ROOT).as_posix(): n for p in SOURCES if (n := len(p.read_text().splitlines())) > LONGEST_FILE}
    assert not long


def test_every_file_opens_with_what_it_is() -> None:
    for path in SOURCES:
        if path.stat().st_size:
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_tests_mirror_the_packages() -> None:
    """A room's tests lie in a folder of the room's name, and name no room that isn't there."""
    for package in ("gptcore", "pipeline"):
        rooms = {path.name for path in (ROOT / package).iterdir() if path.is_dir() and (path / "__init__.py").exists()}
        folders = {path.name for path in (ROOT / "tests" / package).iterdir() if path.is_dir()} - {"__pycache__"}
        assert folders <= rooms
        assert rooms - folders <= {"contract", "evaluation", "settings", "training"}, (
            "these are tested through the stages"
        )


def test_the_librarys_tests_know_nothing_of_the_pipeline() -> None:
    for path in (ROOT / "tests" / "gptcore").rglob("*.py"):
        assert "pipeline" not in top_level(path), path


def test_params_yaml_is_valid_and_complete() -> None:
    params.check_all(ROOT / "params.yaml")


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_profile_is_a_valid_overlay(profile: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    apply(profile.stem, tmp_path)
    params.check_all(tmp_path / "params.yaml")


def test_numerics_lock_is_part_of_the_lock() -> None:
    def pins(path: Path) -> set[str]:
        return {line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"^[\w.-]+==", line)}

    numerics = pins(ROOT / "numerics.lock")
    assert numerics <= pins(ROOT / "requirements.lock")
    assert "torch==2.13.0" in numerics


def test_the_readme_prints_every_room() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for package in ("gptcore", "pipeline"):
        for path in (ROOT / package).iterdir():
            if path.is_dir() and (path / "__init__.py").exists():
                assert f"{path.name}/" in readme, path


def test_no_tracked_file_is_large() -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    sizes = {name: (ROOT / name).stat().st_size for name in names if (ROOT / name).is_file()}
    assert {name for name, size in sizes.items() if size > 2 << 20} == set()


def test_a_stages_module_says_what_it_is() -> None:
    for name in STAGES.names():
        assert inspect.getdoc(inspect.getmodule(STAGES[name])), name
