"""Why a stage would run, on a real project under DVC."""

import pytest

from gptcore.errors import BusyError, ParameterError
from pipeline.orchestration.why import NOTHING, explain


@pytest.fixture
def made(toy):
    assert toy.dvc("repro").returncode == 0
    toy.run(["git", "add", "-A"])
    toy.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "made"])
    return toy


def test_nothing_changed(made):
    assert explain(made.root) == NOTHING


def test_a_project_that_never_ran(toy):
    lines = explain(toy.root).splitlines()
    assert len(lines) == 6
    assert all("will run: it has not run yet, as far as dvc.lock knows" in line for line in lines)


def test_a_parameter_is_told_with_both_values_and_those_below_may_run(made):
    made.knobs("left", value=3, seconds=0)
    assert explain(made.root).splitlines() == [
        "seed: nothing changed",
        "left will run:",
        "  parameter left.value: 0 → 3",
        "  parameter left.seconds: nothing → 0",
        "right: nothing changed",
        "both may run: nothing changed in it, but left above it will or may run",
        "train_a: nothing changed",
        "train_b: nothing changed",
    ]
    assert explain(made.root, ["right"]) == NOTHING
    told = made.dvc("repro").stdout
    assert "Running stage 'left'" in told
    assert "Running stage 'right'" not in told
    assert explain(made.root) == NOTHING


def test_inputs_outputs_code_and_commands_are_told(made):
    (made.root / "right.txt").unlink()
    (made.root / "train_a.txt").write_text("by hand")
    told = explain(made.root)
    assert "right will run:\n  its output right.txt is missing" in told
    assert "train_a will run:\n  its output train_a.txt changed" in told
    assert "both will run:\n  input right.txt is missing\n  and right above it will or may run" in told
    with open(made.root / "stage.py", "a") as code:
        code.write("# more\n")
    wiring = made.root / "dvc.yaml"
    wiring.write_text(wiring.read_text().replace("python stage.py train_b", "python -s stage.py train_b"))
    told = explain(made.root, ["train_b"])
    assert "train_b will run:\n  code stage.py changed\n  its command changed\n  and seed above it" in told


def test_the_changed_files_of_a_room_are_named(made):
    room = made.root / "room"
    room.mkdir()
    for name in ("a.py", "b.py"):
        (room / name).write_text("pass\n")
    wiring = made.root / "dvc.yaml"
    text = wiring.read_text().replace("  train_b:\n", "  train_b:\n    wdir: .\n", 1)
    wiring.write_text(text.replace("- stage.py\n", "- stage.py\n    - room\n"))
    assert made.dvc("repro", "train_b").returncode == 0
    made.run(["git", "add", "-A"])
    made.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "room"])
    (room / "b.py").write_text("pass  # edited\n")
    (room / "c.py").write_text("pass\n")
    assert "code room changed: room/b.py, room/c.py" in explain(made.root, ["train_b"])


def test_an_unknown_stage_and_a_busy_project(made, wait_for):
    with pytest.raises(ParameterError, match="nosuch"):
        explain(made.root, ["nosuch"])
    made.knobs("left", seconds=20)
    made.forget()
    running = made.start(["dvc", "repro", "--single-item", "left"])
    wait_for(lambda: "left" in made.ran())
    with pytest.raises(BusyError, match="another process runs stages just now"):
        explain(made.root)
    running.kill()
