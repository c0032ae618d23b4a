"""A run held against the record of its parameters: by stage, file and tensor, changed code or not."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from gptcore.artifact import commit, write_json
from gptcore.errors import DataError, ParameterError
from pipeline.orchestration.integrity import recording, records
from pipeline.orchestration.integrity.on_disk import Disk
from pipeline.orchestration.integrity.outs import in_order, lock_here
from pipeline.orchestration.same_bytes import verdict

WIRING = {
    "fetch": {"cmd": "x", "deps": ["data/given", "fetch.py"], "meta": {"every_machine": True}},
    "cut": {"cmd": "x", "deps": ["data/raw", "data/extra", "cut.py"], "meta": {"every_machine": True}},
    "train": {"cmd": "x", "deps": ["data/cut", "train.py"]},
    "show": {"foreach": ["a"], "do": {"cmd": "x", "deps": ["data/model", "show.py"]}},
}
OUTS = {"fetch": "data/raw", "cut": "data/cut", "train": "data/model", "show@a": "data/show.json"}


class Project:
    """Four stages by hand: what they write is what the test says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        YAML(typ="safe").dump({"stages": WIRING}, root / "dvc.yaml")
        (root / "data").mkdir()
        self.values: dict[str, Any] = {
            "given": "text", "extra": "more", "raw": "raw", "cut": "cut", "written_by": "1.0", "weights": 1.0,
            "bias": 2.0, "shown": "{}", "code": "c", "lr": 0.1, "class": "class-a",
        }  # fmt: skip
        self.run()

    def run(self, **values: Any) -> "Project":
        self.values |= values
        v, data = self.values, self.root / "data"
        for name in ("given", "extra"):
            (data / name).write_text(v[name])
        with commit(data / "raw", kind="raw", config={}) as draft:
            (draft / "text").write_text(v["raw"])
        with commit(data / "cut", kind="cut", config={}, content_hash=lambda _: v["cut"].ljust(64, "0")) as draft:
            (draft / "rows").write_text(v["cut"] + v["written_by"])
        with commit(data / "model", kind="checkpoint", config={}) as draft:
            tensors = {"h.0.weight": np.full((4, 4), v["weights"], "f4"), "h.0.bias": np.full(4, v["bias"], "f4")}
            save_file(tensors, draft / "model.safetensors")
        (data / "show.json").write_text(v["shown"])
        write_json(data / ".provenance/train.json", {"machine_class": v["class"]})
        self._lock()
        return self

    def _lock(self) -> None:
        stages = {}
        for name, path in OUTS.items():
            entry = WIRING[name.partition("@")[0]]
            deps = [self._entry(d) for d in entry.get("do", entry)["deps"] if not d.endswith(".py")]
            deps.append({"path": f"{name.partition('@')[0]}.py", "md5": self.values["code"]})
            params = {"params.yaml": {name.partition("@")[0]: {"lr": self.values["lr"]}}}
            stages[name] = {"cmd": "x", "deps": deps, "params": params, "outs": [self._entry(path)]}
        YAML(typ="safe").dump({"schema": "2.0", "stages": dict(sorted(stages.items()))}, self.root / "dvc.lock")

    def _entry(self, path: str) -> dict[str, str]:
        return {"path": path, "md5": Disk().md5(self.root / path)}

    def record(self, profile: str = "default") -> records.Record:
        made = records.make(self.root, lock_here(self.root), profile, self.values["class"])
        write_json(self.root / made.path, made.plain())
        return made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_record_is_small_deterministic_and_says_what_it_is_of(project: Project) -> None:
    first, second = project.record().plain(), project.record().plain()
    assert first == second
    assert set(first["stages"]) == set(OUTS)
    model = first["stages"]["train"]["data/model"]
    assert set(model["tensors"]["model.safetensors"]) == {"h.0.weight", "h.0.bias"}
    assert all(len(digest) == 16 for digest in [*model["files"].values(), first["parameters"], first["seen"]])
    assert first["stages"]["cut"]["data/cut"]["content"] == "cut".ljust(16, "0")
    assert "content" not in first["stages"]["show@a"]["data/show.json"]
    assert in_order(lock_here(project.root)) == ["fetch", "cut", "train", "show@a"]


def test_equal_bytes_whatever_the_code(project: Project) -> None:
    project.record()
    for _ in range(2):
        found = verdict(project.root)
        assert found.kept
        assert found.text == (
            "Same bytes: all 4 stages gave the 7 files and 2 tensors that data/records/default.json records "
            "(class class-a)."
        )
        project.run(code="another")


def test_the_first_difference_is_told_by_stage_file_and_tensor(project: Project) -> None:
    project.record()
    found = verdict(project.run(bias=3.0, shown="[]", code="another").root)
    assert found.code == 1
    assert "NOT REPRODUCED: with the same parameters and data, 3 file(s) differ from data/records/default.json." in (
        found.text
    )
    assert "First difference: stage train, data/model/model.safetensors, tensor h.0.bias.\n" in found.text
    assert "Stages that differ: train, show@a" in found.text
    assert found.text.endswith("record it anew: `python -m pipeline record --profile default`")
    found = verdict(project.run(weights=3.0, cut="other").root)
    assert "First difference: stage cut, data/cut/rows.\n" in found.text
    found = verdict(project.run(cut="cut").root)
    assert "tensor h.0.bias and 1 more.\n" in found.text
    project.record()
    assert verdict(project.root).kept


def test_missing_and_more_files_are_differences(project: Project) -> None:
    made = project.record()
    plain = made.plain()
    plain["stages"]["train"]["data/model"]["files"]["config.json"] = "0" * 16
    write_json(project.root / made.path, plain)
    assert "stage train, data/model/config.json" in verdict(project.root).text
    del plain["stages"]["train"]["data/model"]["files"]["config.json"]
    del plain["stages"]["train"]["data/model"]["files"]["model.safetensors"]
    write_json(project.root / made.path, plain)
    assert "stage train, data/model/model.safetensors" in verdict(project.root).text
    plain["stages"]["gone"] = {"data/gone": {"files": {"": "0" * 16}}}
    write_json(project.root / made.path, plain)
    assert "Nothing to compare" in verdict(project.root).text  # of other parameters: it has a stage more


def test_other_parameters_or_data_are_not_compared(project: Project) -> None:
    project.record()
    assert "Nothing to compare" in verdict(project.run(lr=0.2).root).text
    assert "Same bytes" in verdict(project.run(lr=0.1).root).text
    assert "Nothing to compare" in verdict(project.run(given="t", raw="r").root).text
    assert "Same bytes" in verdict(project.run(given="unused", raw="raw").root).text  # what stages see is equal
    assert "stage fetch, data/raw/text" in verdict(project.run(given="text", raw="r").root).text  # what was given is
    assert "Nothing to compare" in verdict(project.run(extra="x").root).text


def test_records_of_several_profiles_are_told_apart_by_their_parameters(project: Project) -> None:
    project.record()
    project.run(lr=0.2, weights=5.0).record("tiny")
    assert "data/records/tiny.json" in verdict(project.root).text
    assert "data/records/default.json" in verdict(project.run(lr=0.1, weights=1.0).root).text


def test_on_another_class_data_must_be_equal_and_weights_need_not(project: Project) -> None:
    project.record()
    assert "Same bytes" in verdict(project.run(**{"class": "class-b"}).root).text
    found = verdict(project.run(weights=3.0).root)
    assert found.kept
    assert "Data equal; trained outputs differ: machine class class-a (recorded) ≠ class-b (here)." in found.text
    found = verdict(project.run(cut="other").root)
    assert found.code == 1
    assert "stage cut, data/cut/rows" in found.text


def test_a_library_that_writes_other_bytes_of_the_same_content(project: Project) -> None:
    project.record()
    found = verdict(project.run(written_by="2.0").root)
    assert found.code == 1
    assert "stage cut, data/cut/rows (its content is equal)" in found.text
    found = verdict(project.run(**{"class": "class-b"}).root)
    assert found.kept
    assert "Data equal" in found.text


def test_damage_goes_before_difference(project: Project) -> None:
    project.record()
    (project.root / "data/show.json").write_text("damaged")
    assert verdict(project.root).code == 65


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "stages": {}}', "nul\0"])
def test_what_is_no_record_is_one_message(project: Project, broken: str) -> None:
    (project.root / "data/records").mkdir()
    (project.root / "data/records/x.json").write_text(broken)
    with pytest.raises(DataError, match=r"^data/records/x\.json: not a record \(.*; `git checkout data"):
        verdict(project.root)


# --- recording ---


@pytest.fixture
def toy_run(toy: Any) -> Any:
    assert toy.run(["dvc", "repro"]).returncode == 0
    write_json(toy.root / "data/.provenance/x.json", {"machine_class": "class-a"})
    return toy


def test_recording_a_run(toy_run: Any) -> None:
    made = recording.record(toy_run.root)
    assert json.loads((toy_run.root / made.path).read_text()) == made.plain()
    assert "Same bytes: all 6 stages gave the 6 files and 0 tensors" in verdict(toy_run.root).text
    ignored = subprocess.run(["git", "check-ignore", "-q", made.path], cwd=toy_run.root, check=False)
    assert ignored.returncode == 1


def test_only_a_whole_run_is_recorded(toy_run: Any) -> None:
    (toy_run.root / "params.yaml").write_text((toy_run.root / "params.yaml").read_text().replace("0", "1", 1))
    with pytest.raises(DataError, match=r"nothing was recorded: not up to date: .*; run `make repro` first"):
        recording.record(toy_run.root)
    assert toy_run.run(["dvc", "repro"]).returncode == 0
    with open(toy_run.root / "both.txt", "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    with pytest.raises(DataError, match=r"nothing was recorded: "):
        recording.record(toy_run.root)
    assert not (toy_run.root / "data/records").exists()


def test_a_record_has_the_name_of_the_profile_in_force(toy_run: Any) -> None:
    name, values = next(iter(YAML(typ="safe").load(toy_run.root / "params.yaml").items()))
    (toy_run.root / "profiles").mkdir()
    YAML(typ="safe").dump({name: values}, toy_run.root / "profiles/held.yaml")
    YAML(typ="safe").dump({name: {"value": 77}}, toy_run.root / "profiles/other.yaml")
    with pytest.raises(ParameterError, match="the profile held is in force; expected none for 'default'"):
        recording.record(toy_run.root)
    for wrong in ("other", "held+other"):
        with pytest.raises(ParameterError, match=r"profile other: not in force \(found held\)"):
            recording.record(toy_run.root, wrong)
    for wrong in ("", "../x", "a/b", ".hidden"):
        with pytest.raises(ParameterError, match="expected a name"):
            recording.record(toy_run.root, wrong)
    assert recording.record(toy_run.root, "held").path == "data/records/held.json"
