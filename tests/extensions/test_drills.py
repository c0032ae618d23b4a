"""What a user would add, one file each, and nothing of ours edited: it works, and its stages depend on it.

`examples/` holds a member for every seam.  They are registered as anyone's are: entry points in pyproject.toml, names
in params.yaml, files in dvc.yaml.  One small real run uses them all.
"""

import csv
import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from ruamel.yaml import YAML

from gptcore.artifact import sha256_file
from pipeline.contract.source_code import covers, is_exception, is_prose
from tests.clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLES = Path(__file__).parent / "examples"
LONGEST = 40
MEMBERS = {
    "pipeline.stages": ("reread", "reread_stage:reread"),
    "gptcore.formats.families": ("upside-down", "upside_down_format:FORMAT"),
    "pipeline.corpus.readers": ("csv-gz", "csv_gz_reader:READER"),
    "pipeline.corpus.steps": ("short-texts", "short_texts_step:drop_short_texts"),
    "gptcore.objectives": ("calm", "calm_objective:Calm"),
    "pipeline.tasks.sets": ("vowels", "vowel_task:Vowels"),
    "pipeline.exporters.formats": ("numpy", "numpy_exporter:EXPORTER"),
    "pipeline.tracking.stores": ("files", "file_tracker:FileStore"),
}
SERVES = {
    "csv_gz_reader.py": ["download", "tokenizer", "tokenize"],
    "short_texts_step.py": ["tokenizer", "tokenize"],
    "calm_objective.py": ["pretrain"],
    "reread_stage.py": ["reread"],
    "upside_down_format.py": ["load_gpt2", "export"],
    "vowel_task.py": ["evaluate"],
    "numpy_exporter.py": ["export"],
    "numpy_gpt.py": ["export"],
}
"""Extension → the stages whose deps name it."""
REREAD = {
    "desc": "the pretrained model reads the validation text a little longer",
    "cmd": "python -m pipeline reread --foundation data/checkpoints/pretrain --windows data/windows "
    "--out data/checkpoints/reread --curve data/plots/reread.csv",
    "deps": ["data/checkpoints/pretrain", "data/windows"],
    "params": ["reread"],
    "outs": ["data/checkpoints/reread", "data/views/reread.json"],
    "metrics": [{"data/metrics/reread.json": {"cache": False}}],
    "plots": ["data/plots/reread.csv"],
}
RECORDER = """
import atexit, json, os, sys
def note():
    if len(sys.argv) > 1 and sys.argv[0].endswith("pipeline/__main__.py"):
        files = [getattr(m, "__file__", None) for m in list(sys.modules.values())]
        mine = sorted({os.path.relpath(f) for f in files if f and f.startswith(os.getcwd() + os.sep)})
        with open(os.path.join(os.environ["LOADED"], sys.argv[1] + ".json"), "w") as file:
            json.dump(mine, file)
atexit.register(note)
"""


class House(Clone):
    """A clone that somebody extended and ran."""

    def edit_yaml(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        yaml = YAML()
        document = yaml.load((self.root / name).read_text(encoding="utf-8"))
        change(document)
        yaml.dump(document, self.root / name)

    def read(self, name: str) -> Any:
        return json.loads((self.root / "data" / name).read_text(encoding="utf-8"))

    def stale(self) -> set[str]:
        status = json.loads(self.run("dvc", "status", "--json").strip().splitlines()[-1])
        return {stage for stage, changes in status.items() if any("changed deps" in change for change in changes)}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    house = House(tmp_path_factory.mktemp("drills") / "project")
    for example in EXAMPLES.glob("*.py"):
        shutil.copy(example, house.root)
    _register(house, tmp_path_factory.mktemp("site"))
    loaded = tmp_path_factory.mktemp("loaded")
    house.more |= {"GPTCORE_TRACKING": "files", "LOADED": str(loaded)}
    _own_data(house)
    house.edit_yaml("dvc.yaml", _wire)
    house.edit_yaml("params.yaml", lambda params: _choose(params, house.root))
    house.repro("export@pretrain", "export@reread")
    house.run("python", "-c", FOREIGN)
    house.edit_yaml("params.yaml", lambda params: params["load_gpt2"].update(source="foreign"))
    house.printed = house.repro("evaluate", "finetune_classify", "finetune_prefer@instruct")  # type: ignore[attr-defined]
    house.loaded = {path.stem: json.loads(path.read_text()) for path in loaded.iterdir()}  # type: ignore[attr-defined]
    return house


FOREIGN = """
from gptcore.formats.directory import load_model, save_model
from gptcore.formats.families import FAMILIES
from gptcore.tokenizer import Tokenizer
source = "data/checkpoints/pretrain"
save_model(load_model(source), "foreign", Tokenizer.load(source), FAMILIES["upside-down"])
"""


def _register(house: House, site: Path) -> None:
    """Entry points as pyproject.toml has them, made into metadata by the tool that an installation uses."""
    lines = [f'[project.entry-points."{group}"]\n{name} = "{place}"\n' for group, (name, place) in MEMBERS.items()]
    with open(house.root / "pyproject.toml", "a", encoding="utf-8") as file:
        file.write("\n" + "\n".join(lines))
    house.run("python", "-c", "from setuptools import setup; setup()", "-q", "dist_info", "--output-dir", str(site))
    (site / "sitecustomize.py").write_text(RECORDER)
    house.more["PYTHONPATH"] = str(site)


def _own_data(house: House) -> None:
    """Python's manual as compressed CSV, and labelled lines of it."""
    texts = [topics[name] for name in sorted(topics)]
    with gzip.open(house.root / "data/own/manual.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([[text] for text in [*texts, "too short"]])
    for split, chosen in (("train", texts[:40]), ("test", texts[40:60])):
        rows = [{"text": text, "label": "long" if len(text) > 3000 else "short"} for text in chosen]
        (house.root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _wire(wiring: dict[str, Any]) -> None:
    stages = wiring["stages"]
    stages["reread"] = {**REREAD, "deps": [*REREAD["deps"], *_code(stages["pretrain"])]}
    stages["export"]["foreach"].append("reread")
    for file, served in SERVES.items():
        for stage in served:
            stages[stage].get("do", stages[stage])["deps"].append(file)


def _code(stage: dict[str, Any]) -> list[str]:
    return [name for name in stage["deps"] if not name.startswith("data/") and "stages/" not in name]


def _choose(params: dict[str, Any], root: Path) -> None:
    tiny = YAML(typ="safe").load((root / "profiles/tiny.yaml").read_text(encoding="utf-8"))
    for section, values in tiny.items():
        params[section].update(values)
    labelled = {"role": "classification", "format": "jsonl", "text_column": "text", "label_column": "label"}
    params["download"]["use_own"] = True
    params["download"]["sources"] = {
        split: {
            **labelled, "uri": f"file://{split}.jsonl", "sha256": sha256_file(root / f"{split}.jsonl"),
            "split": split, "labels": ["long", "short"], "licence": "PSF",
        }
        for split in ("train", "test")
    }  # fmt: skip
    params["corpus"]["steps"] = ["line-ends", "exact-duplicates", "short-texts"]
    params["pretrain"]["objective"] = "calm"
    params["evaluate"]["tasks"] = ["classification", "instruction", "vowels"]
    params["export"]["formats"] = ["hugging-face", "numpy"]
    params["reread"] = {"max_steps": 5, "batch_windows": 2}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_extension_is_one_short_file(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_a_reader_and_a_step(house: House) -> None:
    metrics = house.read("metrics/tokenize.json")
    assert metrics["dropped"]["short-texts"] == 1
    assert sum(metrics["documents"].values()) > 60
    assert house.read("metrics/download.json")["sources"]["own-csv-gz"]["documents"] == len(topics) + 1


def test_an_objective_says_what_it_sees(house: House) -> None:
    with open(house.root / "data/plots/pretrain.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["log_z"]) > 0 for row in rows)


def test_a_task_is_solved_beside_ours(house: House) -> None:
    scores = house.read("metrics/evaluate.json")["prompting"]
    assert set(scores) == {"classification", "instruction", "vowels"}
    assert scores["vowels"]["examples"] == 8
    assert scores["vowels"]["majority"] > 0.5


def test_a_family_is_the_foundation(house: House) -> None:
    assert house.read("../foreign/config.json")["model_type"] == "upside-down"
    assert house.read("metrics/load_gpt2.json")["against"] == "transformers"  # a copy of it
    mapping = house.read("checkpoints/load_gpt2/mapping.json")
    assert "layer_{}.ln_1.weight" in {row["hugging_face"] for row in mapping}


def test_a_stage_is_a_stage_like_ours(house: House) -> None:
    assert house.read("metrics/reread.json")["train_loss"] > 0
    report = (house.root / "data/report/index.html").read_text(encoding="utf-8")
    assert "Reading on" in report
    assert "reread" in house.printed  # type: ignore[attr-defined]
    card = (house.root / "data/export/reread/README.md").read_text(encoding="utf-8")
    assert "# GPT-2 that read on" in card
    assert "train_loss" in card
    assert "python -m pipeline reread" in house.run("python", "-m", "pipeline", "reread", "--help")


def test_an_exporter_is_proven(house: House) -> None:
    for name in ("pretrain", "reread"):
        proof = house.read(f"export/{name}/numpy/parity.json")
        assert proof["against"] == "numpy"
        assert proof["greedy_equal"]


def test_a_tracker_gets_every_run(house: House) -> None:
    runs = [path for path in (house.root / "runs").iterdir() if path.is_dir()]
    names = {json.loads(next(run.glob("*-start-*")).read_text())["name"] for run in runs}
    assert {"download", "pretrain", "reread", "evaluate", "export-reread"} <= names
    assert all((run / "status").read_text() == "FINISHED" for run in runs)


def test_a_wrong_name_is_refused_with_those_that_exist(house: House) -> None:
    before = (house.root / "params.yaml").read_text(encoding="utf-8")
    (house.root / "params.yaml").write_text(before.replace("short-texts", "shorter-texts"), encoding="utf-8")
    printed = house.run("python", "-m", "pipeline", "check", code=64)
    (house.root / "params.yaml").write_text(before, encoding="utf-8")
    assert re.search(r"corpus.*exact-duplicates, line-ends, short-texts.*shorter-texts", printed)


@pytest.mark.parametrize("file", sorted(SERVES))
def test_an_extension_is_a_dependency_of_what_it_serves(house: House, file: str) -> None:
    before_edit = house.stale()  # the stages that this run left out
    path = house.root / file
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "\n# edited\n", encoding="utf-8")
    stale = house.stale() - before_edit
    path.write_text(before, encoding="utf-8")
    wanted = {name for name in stale if name.partition("@")[0] in SERVES[file]}
    assert stale == wanted
    assert {name.partition("@")[0] for name in stale} == set(SERVES[file])


def test_what_a_stage_loads_is_what_it_depends_on(house: House) -> None:
    """Dynamically: the files of ours and of extensions that each stage's run loaded."""
    wiring = YAML(typ="safe").load((house.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    loaded: dict[str, list[str]] = house.loaded  # type: ignore[attr-defined]
    entries = {stage: entry.get("do", entry) for stage, entry in wiring.items()}
    assert {entry["cmd"].split()[3] for entry in entries.values()} <= set(loaded)  # python -m pipeline VERB
    missing = {
        f"{stage}: {path}"
        for stage, entry in entries.items()
        for path in loaded.get(stage, [])  # of two entries with one verb the one that has its name
        if not is_exception(path) and not covers(entry["deps"], path) and not is_prose(house.root / path)
    }
    assert missing == set()
