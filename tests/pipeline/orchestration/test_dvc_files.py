"""DVC's files: its table of locks is mended, its wiring and its record are read."""

from pathlib import Path

import pytest

from pipeline.orchestration import dvc_files
from pipeline.orchestration.dvc_files import mend_lock_table

PROJECT = Path(__file__).resolve().parents[3]


def test_a_half_written_table_of_dvc_goes_and_a_whole_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    mend_lock_table()  # nothing there, nothing said
    table = tmp_path / ".dvc" / "tmp" / "rwlock"
    table.parent.mkdir(parents=True)
    table.write_text('{"a": {"write": {"pid": 1}}}')
    mend_lock_table()
    assert table.exists()
    assert capsys.readouterr().err == ""
    table.write_text("")
    mend_lock_table()
    assert not table.exists()
    assert "half-written" in capsys.readouterr().err


def test_code_is_what_is_python_and_the_versions_and_no_data(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "part.py").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  cut: {cmd: x, deps: [data, room, one.py, numerics.lock, params.json]}\n"
        "  ship: {foreach: [a], do: {cmd: x, deps: [room]}}\n"
    )
    assert dvc_files.code_dependencies("cut", tmp_path) == ["room", "one.py", "numerics.lock"]
    assert dvc_files.code_dependencies("ship", tmp_path) == ["room"]
    assert dvc_files.code_dependencies("unknown", tmp_path) == []
    assert dvc_files.wiring(tmp_path / "room") == {}  # no dvc.yaml there


@pytest.mark.parametrize(("text", "there"), [("prefer: {of: [x]}", True), ("prefer: {of: []}", False), ("{}", False)])
def test_a_stage_that_a_parameter_switches_off_is_not_there_any_more(tmp_path: Path, text: str, there: bool) -> None:
    (tmp_path / "dvc.yaml").write_text(
        'stages:\n  cut: {cmd: x}\n  prefer: {foreach: "${prefer.of}", do: {cmd: x, outs: [y]}}\n'
    )
    (tmp_path / "params.yaml").write_text(text)
    assert dvc_files.still_there(["cut", "prefer@x", "prefer"], tmp_path) == {"cut"} | (
        {"prefer@x"} if there else set()
    )
    assert dvc_files.switched_off(tmp_path) == ([] if there else ["y"])
