"""The last commit, run anew in a fresh clone and held against its record; on the tiny profile."""

import json
import re
from pathlib import Path

import pytest

from tests.clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

REPRODUCE = ("python", "-m", "pipeline", "reproduce", "--profile", "tiny")
RECORD = "data/records/tiny.json"


@pytest.fixture
def recorded(clone: Clone, tmp_path: Path) -> Clone:
    """The run is recorded and committed; temporary folders lie in the test's own."""
    assert "not in the last commit" in clone.run("python", "-m", "pipeline", "reproduce", code=65)
    printed = clone.run("python", "-m", "pipeline", "record", "--profile", "tiny")
    assert re.search(r"tiny\.json: \d+ files and \d+ tensors of 14 stages, machine class \w+; commit it", printed)
    assert (clone.root / RECORD).stat().st_size < 100_000
    clone.git("add", "-A")
    clone.git("commit", "-qm", "record")
    clone.more["TMPDIR"] = str(tmp_path)
    return clone


def test_the_commit_is_reproduced_and_a_difference_is_told_to_the_tensor(recorded: Clone, tmp_path: Path) -> None:
    assert "Same bytes: all 14 stages gave" in recorded.repro()
    with open(recorded.root / "pipeline/stages/windows.py", "a", encoding="utf-8") as file:
        file.write("raise SystemExit('an edit that was never committed')\n")
    printed = recorded.run(*REPRODUCE)
    assert "The working tree has changes that are not committed: they are not reproduced." in printed
    assert re.search(r"Same bytes: all 14 stages gave the \d+ files and \d+ tensors that data/records/tiny", printed)
    assert re.search(r"It took \d+ min \d+ s\.\n", printed)
    assert list(tmp_path.glob("gptcore-reproduce-*")) == []
    recorded.git("checkout", "pipeline")

    record = json.loads((recorded.root / RECORD).read_text())
    model = record["stages"]["pretrain"]["data/checkpoints/pretrain"]
    model["files"]["model.safetensors"] = model["tensors"]["model.safetensors"]["transformer.ln_f.bias"] = "0" * 16
    model["content"] = "0" * 16
    (recorded.root / RECORD).write_text(json.dumps(record))
    recorded.git("commit", "-qam", "another record")
    printed = recorded.run(*REPRODUCE, code=1)
    told = "stage pretrain, data/checkpoints/pretrain/model.safetensors, tensor transformer.ln_f.bias.\n"
    assert f"First difference: {told}" in printed
    place = re.search(r"To look into: (.*)\n", printed)
    assert place is not None
    assert (Path(place[1]) / "data/export/pretrain/model.safetensors").is_file()
