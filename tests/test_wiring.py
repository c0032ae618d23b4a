"""dvc.yaml says what the code does: flags, parameters, and every file that can change a stage's bytes."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.contract.source_code import EXCEPTIONS, VERSIONS, closure, covers, is_exception
from pipeline.contract.stage import STAGES, from_params, function_of, inputs, outputs, sections
from pipeline.orchestration.dvc_files import CHOSEN, code_dependencies, wiring
from tests.clone import Clone
from tests.house import ROOT, SOURCES

WIRING = wiring(ROOT)
LONGEST = 240
NAMES = STAGES.names()
AGAIN = {"export_preferred": "export"}
"""Entry of dvc.yaml → the stage that it runs, where that isn't its name."""


def test_dvc_yaml_is_read_from_top_to_bottom() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_every_stage_of_the_code_is_wired_and_the_other_way_round() -> None:
    assert set(WIRING) - set(AGAIN) == set(NAMES)


@pytest.mark.parametrize("name", AGAIN)
def test_an_entry_that_runs_another_one_s_stage_differs_in_its_files_only(name: str) -> None:
    """It may name its code by larger rooms."""
    entry, of = WIRING[name], WIRING[AGAIN[name]]
    assert _flags(entry).keys() == _flags(of).keys()
    assert entry["params"] == of["params"]
    for files in ("deps", "outs"):
        data = [[f for f in each[files] if f.startswith("data/")] for each in (entry, of)]
        assert len(data[0]) == len(data[1])
    assert all(covers(entry["deps"], code) for code in code_dependencies(AGAIN[name], ROOT))
    assert set(_flags(entry).values()) <= {*entry["deps"], *entry["outs"], *map(_name, entry["metrics"])}


def _flags(entry: dict[str, Any]) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in entry["cmd"].split(" --")[1:])


def _name(metrics: dict[str, Any]) -> str:
    return next(iter(metrics))


@pytest.mark.parametrize("stage", NAMES)
def test_flags_are_deps_and_outs(stage: str) -> None:
    entry, function = WIRING[stage], function_of(stage)
    assert entry["cmd"].split(" --")[0] == f"python -m pipeline {stage}"
    flags = _flags(entry)
    metrics = flags.pop("metrics", f"data/metrics/{stage}.json")
    parameters = {name: f"${{{stage}.{name}}}" for name in from_params(function)}
    assert set(flags) == {*inputs(function), *outputs(function)} - set(parameters)
    view = metrics.replace("data/metrics/", "data/views/")
    written = {flags[name] for name in outputs(function)} | {view}
    assert written == {*entry["outs"], *entry.get("plots", [])}
    data_deps = {dep for dep in entry["deps"] if dep.startswith(("data/", "${"))}
    assert {(flags | parameters)[name] for name in inputs(function)} == data_deps
    assert [next(iter(m)) for m in entry["metrics"]] == [metrics]


def test_no_command_holds_a_parameter() -> None:
    """DVC hands a command to a shell; only the literal names of a foreach may be put into one."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, entry in stages.items():
        names, command = entry.get("foreach", []), entry.get("do", entry)["cmd"]
        if isinstance(names, str):  # the parameter that switches the stage on
            assert CHOSEN.fullmatch(names)
            names = []
        assert all(re.fullmatch(r"\w+", item) for item in names), f"{name}: expected literal names, found {names}"
        assert isinstance(command, str)
        found = re.findall(r"\$\{.*?\}|\$\(|`", command)
        assert set(found) <= ({"${item}"} if names else set()), f"{name}: {found}"


@pytest.mark.parametrize("stage", NAMES)
def test_params_are_the_dataclasses(stage: str) -> None:
    assert set(WIRING[stage].get("params", [])) == set(sections(stage))


@pytest.mark.parametrize("stage", NAMES)
def test_a_stage_says_what_it_does(stage: str) -> None:
    assert len(WIRING[stage]["desc"]) > 20


@pytest.mark.parametrize("stage", NAMES)
def test_no_file_that_can_change_bytes_is_missing(stage: str) -> None:
    """Statically; tests/extensions shows the same of what a run loads."""
    stated = code_dependencies(stage, ROOT)
    assert VERSIONS in stated
    needed = [path for path in closure(function_of(stage).__module__) if not is_exception(path)]
    assert [path for path in needed if not covers(stated, path)] == []


@pytest.mark.parametrize("stage", NAMES)
def test_nothing_is_named_that_cannot_change_bytes(stage: str) -> None:
    """Each name covers something that is imported, or belongs to a seam that the stage reaches."""
    imported = closure(function_of(stage).__module__)
    seams = [str(Path(path).parent) for path in imported if path in SEAMS]
    reached = [*imported, VERSIONS]
    for name in code_dependencies(stage, ROOT):
        assert (ROOT / name).exists(), name
        assert not is_exception(name), name
        used = any(covers([name], path) for path in reached) or covers(seams, name) or name in FOR_MEMBERS
        assert used, name


@pytest.mark.parametrize("stage", NAMES)
def test_a_stage_that_opens_members_by_name_names_them(stage: str) -> None:
    imported, stated = closure(function_of(stage).__module__), code_dependencies(stage, ROOT)
    for init in set(imported) & SEAMS:
        room = Path(init).parent
        members = [p.relative_to(ROOT).as_posix() for p in (ROOT / room).glob("*.py") if p.name != "__init__.py"]
        assert any(covers(stated, member) for member in members), f"{stage} may open a member of {room}"


SEAMS = {
    path.relative_to(ROOT).as_posix()
    for path in SOURCES
    if path.name == "__init__.py"
    and any(
        isinstance(node, ast.Call) and ast.unparse(node.func) == "Seam"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
}
FOR_MEMBERS = {
    "gptcore/bpe.py",
    "gptcore/gguf_file.py",
    "gptcore/prompt.py",
    "pipeline/tasks/instructions.py",
    "pipeline/corpus",
    "pipeline/corpus/utf8.py",
}
"""What only members of a seam import, which are opened by name."""


def test_exceptions_exist_and_have_a_reason() -> None:
    for path, reason in EXCEPTIONS.items():
        assert (ROOT / path).exists(), path
        assert len(reason) > 10


# --- what an edit makes stale ------------------------------------------------------------------------------

EDITS = {
    "pipeline/exporters/card.py": {"export"},
    "pipeline/exporters/formats/hugging_face.py": {"export"},
    "pipeline/report/page.py": set(),
    "pipeline/tracking/runs.py": set(),
    "pipeline/orchestration/runner.py": set(),
    "pipeline/contract/params.py": set(),
    "pipeline/run_stage.py": set(),
    "pipeline/tasks/instruction_writer/kinds.py": set(),
    "pipeline/tasks/prompting.py": {"evaluate"},
    "pipeline/tasks/answers.py": {"finetune_instruct"},
    "pipeline/tasks/pairs.py": set(),
    "gptcore/objectives/preference.py": set(),
    "pipeline/tasks/sets/instruction.py": {"evaluate", "finetune_instruct"},
    "pipeline/evaluation/shown.py": {"evaluate"},
    "pipeline/sources/web.py": {"download"},
    "pipeline/corpus/steps/exact_duplicates.py": {"tokenizer", "tokenize", "evaluate", "finetune_classify"},
    "gptcore/prompt.py": {"evaluate", "finetune_instruct", "export"},
    "gptcore/adapters/lora.py": {"finetune_classify", "finetune_instruct"},
    "gptcore/formats/families/llama.py": {"load_gpt2", "finetune_classify", "finetune_instruct", "export"},
    "gptcore/inference/generate.py": {"load_gpt2", "evaluate", "finetune_instruct", "export"},
    "gptcore/inference/linear.py": set(),
    "gptcore/objectives/response.py": {"finetune_instruct"},
    "gptcore/machine/estimate.py": set(),
    "gptcore/__init__.py": set(),
}
"""File → the stages that an edit of it makes stale by itself; pretraining is none of them, what is off is not there."""


HASHES = """
import json
from dvc.repo import Repo
with Repo() as repo:
    stages = [stage for stage in repo.index.stages if stage.cmd]
    print(json.dumps({s.addressing: {d.def_path: str(d.get_hash()) for d in s.deps if d.exists} for s in stages}))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("wiring") / "project")


def dependencies(clone: Clone) -> dict[str, dict[str, str]]:
    """Stage → its deps that are there, each with the hash by which DVC tells whether it changed."""
    found: dict[str, dict[str, str]] = json.loads(clone.run("python", "-c", HASHES).splitlines()[-1])
    return found


@pytest.mark.parametrize("path", sorted(EDITS))
def test_an_edit_makes_stale_what_it_can_change(clone: Clone, path: str) -> None:
    before = dependencies(clone)
    file = clone.root / path
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "\n# edited\n", encoding="utf-8")
    after = dependencies(clone)
    file.write_text(text, encoding="utf-8")
    assert {stage.partition("@")[0] for stage in after if after[stage] != before[stage]} == EDITS[path]
