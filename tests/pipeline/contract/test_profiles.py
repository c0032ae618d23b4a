"""Profiles come and go; the user's own edits stay, whenever and under whichever profile they were made."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptcore.errors import ParameterError
from pipeline.contract import overlays, params, profiles
from pipeline.contract.profiles import apply, in_force, own_edits

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


class Project:
    """A params.yaml, the profiles, and git."""

    def __init__(self, root: Path, git: bool = True) -> None:
        self.root = root
        self.path = root / "params.yaml"
        self.path.write_text(TEXT, encoding="utf-8")
        shutil.copytree(ROOT / "profiles", root / "profiles")
        if git:
            self.git("init", "-q")
            (root / ".gitignore").write_text("data/.scratch/\n")
            self.commit()

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "all")

    def apply(self, names: str) -> None:
        apply(names, self.root)

    def edit(self, before: str, after: str) -> None:
        text = self.path.read_text(encoding="utf-8")
        assert text.count(before) == 1, before
        self.path.write_text(text.replace(before, after), encoding="utf-8")

    def __getitem__(self, name: str) -> Any:
        section, field = name.split(".")
        return params.read(self.path)[section][field]

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# --- into force and back -----------------------------------------------------------------------------------


def test_a_profile_is_merged_with_comments_kept(project: Project) -> None:
    project.apply("tiny")
    merged, base = params.read(project.path), params.read(ROOT / "params.yaml")
    assert merged["model"] == {**base["model"], "d_model": 32, "n_layer": 1, "n_head": 2}
    assert merged["download"] == base["download"]
    assert project.text.count("#") == TEXT.count("#") + 1
    assert in_force(project.root) == "tiny"


def test_a_value_that_the_file_does_not_name_stands_within_its_section(project: Project) -> None:
    project.apply("smollm2")
    section = project.text.partition("\nevaluate:\n")[2].partition("\n\n")[0]
    assert "\n  context: 512\n" in section
    assert project.text.count("\n\n") == TEXT.count("\n\n")


@pytest.mark.parametrize("names", ["tiny", "own", "tiny+own", "gpt2-124m", "tiny+llama", "smollm2"])
def test_there_and_back_the_file_is_the_same_to_the_byte(project: Project, names: str) -> None:
    project.apply(names)
    assert project.text != TEXT
    assert in_force(project.root) == names
    project.apply(names)
    project.apply("none")
    assert project.text == TEXT
    project.apply("none")
    assert project.text == TEXT
    assert in_force(project.root) == ""


def test_profiles_do_not_stack_unless_both_are_named(project: Project) -> None:
    project.apply("tiny")
    project.apply("own")
    assert project["download.use_own"] is True
    assert project["model.d_model"] == 256
    project.apply("tiny+own")
    assert project["download.use_own"] is True
    assert project["model.d_model"] == 32
    (project.root / "profiles/wide.yaml").write_text("model: {d_model: 64}\n")
    project.apply("tiny+wide")
    assert (project["model.d_model"], project["model.n_head"]) == (64, 2)
    project.apply("wide+tiny")
    assert project["model.d_model"] == 32
    project.apply("none")
    assert project.text == TEXT


def test_a_profile_may_set_what_params_yaml_leaves_out(project: Project) -> None:
    (project.root / "profiles/mine.yaml").write_text("model: {layer_norm_eps: 0.001}\n")
    project.apply("mine")
    assert params.load_stage("pretrain", project.path)["model"].layer_norm_eps == 0.001
    project.edit("dropout: 0.0", "dropout: 0.1")
    project.apply("none")
    assert "layer_norm_eps" not in project.text
    assert project["model.dropout"] == 0.1


# --- the user's own edits ----------------------------------------------------------------------------------


def test_edits_before_and_under_a_profile_are_kept(project: Project) -> None:
    project.edit("  max_steps: 950\n", "  max_steps: 951  # mine\n")  # the profile sets it too
    project.edit("grad_clip: 1.0\n  schedule: linear        #", "grad_clip: 2.0\n  schedule: linear        #")
    before = project.text
    project.apply("tiny")
    assert project["pretrain.max_steps"] == 30
    project.edit("eval_windows: 8", "eval_windows: 9  # more")  # what the profile has set
    project.edit("beta1: 0.9\n  beta2: 0.95\n  grad_clip: 2.0", "beta1: 0.8\n  beta2: 0.95\n  grad_clip: 2.0")
    project.apply("own")  # another profile: the edits come along
    assert (project["pretrain.eval_windows"], project["pretrain.beta1"]) == (9, 0.8)
    assert (project["pretrain.max_steps"], project["model.d_model"]) == (951, 256)
    project.apply("none")
    assert project["download.use_own"] is False
    expected = before.replace("eval_windows: 32", "eval_windows: 9  # more")
    assert project.text == expected.replace(
        "beta1: 0.9\n  beta2: 0.95\n  grad_clip: 2.0", "beta1: 0.8\n  beta2: 0.95\n  grad_clip: 2.0"
    )
    assert own_edits(project.root) == {
        "pretrain.max_steps": (950, 951),
        "pretrain.beta1": (0.9, 0.8),
        "pretrain.grad_clip": (1.0, 2.0),
        "pretrain.eval_windows": (32, 9),
    }


def test_a_line_removed_under_a_profile_stays_removed(project: Project) -> None:
    project.apply("tiny")
    project.edit("  objective: next-token   # what is learned (gptcore/objectives)\n", "")
    project.apply("none")
    assert "objective" not in params.read(project.path)["pretrain"]
    assert project["model.d_model"] == 256


SECTIONS = params.read(ROOT / "params.yaml")
NUMBERS = [
    (section, field)
    for section in ("pretrain", "evaluate", "finetune_classify", "finetune_instruct", "windows", "model", "export")
    for field, value in SECTIONS[section].items()
    if type(value) in (int, float)
]
EDITS = st.dictionaries(st.sampled_from(NUMBERS), st.integers(10**6, 2 * 10**6), max_size=5)


def edited(text: str, edits: dict[tuple[str, str], int]) -> str:
    """Each field's value replaced on its line, as one does it in an editor."""
    lines, section = [], ""
    for line in text.split("\n"):
        section = line.partition(":")[0] if line and line[0] not in " #" else section
        field = line.strip().partition(":")[0]
        if (section, field) in edits and line.startswith(f"  {field}:"):
            comment = f"  # {line.partition('#')[2].strip()}" if "#" in line else ""
            line = f"  {field}: {edits[section, field]}{comment}"
        lines.append(line)
    return "\n".join(lines)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    before=EDITS,
    under=st.lists(
        st.tuples(st.sampled_from(["tiny", "own", "llama", "tiny+llama", "gpt2-124m"]), EDITS), min_size=1, max_size=3
    ),
)
def test_whatever_was_edited_is_there_after_going_back(
    before: dict[tuple[str, str], int],
    under: list[tuple[str, dict[tuple[str, str], int]]],
    tmp_path_factory: Any,
) -> None:
    """The values are out of many ranges on purpose, and nothing but an applied profile is checked for that."""
    project = Project(tmp_path_factory.mktemp("edits"), git=False)
    unchecked = pytest.MonkeyPatch()
    unchecked.setattr(params, "check_document", lambda document, path: None)
    try:
        project.path.write_text(edited(TEXT, before), encoding="utf-8")
        expected = before
        for names, edits in under:
            project.apply(names)
            project.path.write_text(edited(project.text, edits), encoding="utf-8")
            expected = expected | edits
        project.apply("none")
    finally:
        unchecked.undo()
    wanted = params.read(ROOT / "params.yaml")
    for (section, field), value in expected.items():
        wanted[section][field] = value
    assert params.read(project.path) == wanted
    assert project.text.count("#") == TEXT.count("#")


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("mine", r"profile mine: 2 problem(.|\n)*stride = 0(.|\n)*nonsense: unknown"),
        ("tiny+mine", r"stride = 0"),
        ("yours", r"expected one of: ([\w-]+, )*mine, ([\w-]+, )*own, "),
        ("../params", "expected none, a file's name"),
        ("tiny+tiny", "expected none, a file's name"),
        ("tiny+", "expected none, a file's name"),
        ("tiny+none", "expected none, a file's name"),
    ],
)
def test_a_bad_profile_changes_nothing(project: Project, names: str, told: str) -> None:
    (project.root / "profiles/mine.yaml").write_text("windows: {stride: 0}\npretrain: {nonsense: 1}\n")
    with pytest.raises(ParameterError, match=told):
        project.apply(names)
    assert project.text == TEXT
    assert not list((project.root / profiles.RECORDS).glob("[!.]*"))
    project.apply("tiny")
    held = project.text
    with pytest.raises(ParameterError):
        project.apply(names)
    assert project.text == held


def test_a_broken_file_is_left_alone(project: Project) -> None:
    project.apply("tiny")
    project.path.write_text(project.text + "<<<<<<< HEAD\n  a: [\n")
    held = project.text
    for names in ("none", "own"):
        with pytest.raises(ParameterError, match="not valid YAML"):
            project.apply(names)
    assert project.text == held


# --- the record ------------------------------------------------------------------------------------------------


def test_a_lost_record_is_made_up_from_the_commit(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.edit("n_layer: 3", "n_layer: 4")  # the profile covers it: only the record knew
    project.edit("rope_theta: 10000.0", "rope_theta: 20000.0")
    project.apply("tiny")
    project.edit("eval_windows: 8", "eval_windows: 9")
    shutil.rmtree(project.root / "data")
    project.apply("none")
    assert "the record of the profile tiny is lost" in capsys.readouterr().err
    assert (project["pretrain.eval_windows"], project["model.rope_theta"]) == (9, 20000.0)
    assert (project["model.d_model"], project["model.n_layer"]) == (256, 3)


def test_where_no_commit_helps_nothing_is_done_but_to_say_so(project: Project) -> None:
    project.apply("tiny")
    project.commit()
    assert own_edits(project.root) == {}
    shutil.rmtree(project.root / "data")
    held = project.text
    for names in ("none", "own"):
        with pytest.raises(ParameterError, match="nothing was changed"):
            project.apply(names)
    project.apply("tiny")  # which is in force
    assert project.text == held
    assert own_edits(project.root) is None
    project.path.write_text(held.partition("\n")[2])  # as the message says
    project.apply("own")
    assert project["model.d_model"] == 32


def test_what_git_put_there_meanwhile_is_the_users(project: Project) -> None:
    project.apply("tiny")
    project.git("checkout", "params.yaml")
    assert in_force(project.root) == ""
    project.apply("own")
    project.apply("none")
    assert project.text == TEXT
    project.edit("n_layer: 3", "n_layer: 5")
    project.commit()
    project.apply("tiny")
    project.git("checkout", "HEAD~1", "--", "params.yaml")  # another commit's
    project.apply("own")
    assert project["model.n_layer"] == 3


def test_a_damaged_record_counts_as_lost(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.apply("tiny")
    (record,) = (project.root / profiles.RECORDS).glob("*.json")
    record.write_text(record.read_text().replace("950", "951"))
    project.apply("none")
    assert "is lost" in capsys.readouterr().err
    assert project["pretrain.max_steps"] == 950


def test_records_do_not_pile_up(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "KEPT", 4)
    for n in range(6):
        project.apply("tiny")
        project.edit("eval_windows: 8", f"eval_windows: {100 + n}")
        project.apply("none")
        project.edit(f"eval_windows: {100 + n}", "eval_windows: 32")
    assert len(list((project.root / profiles.RECORDS).glob("[!.]*"))) <= 5
    project.apply("tiny")
    project.apply("none")
    assert project.text == TEXT


# --- kills -------------------------------------------------------------------------------------------------


def killed(work: Callable[[], None], after: int) -> bool:
    """Do ``work`` in a child that ends, as by SIGKILL, at its call number ``after`` that can change the disk."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            writes = event in ("os.rename", "os.remove", "os.mkdir", "os.truncate") or (
                event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            )
            seen += bool(writes)
            if seen > after:
                os._exit(9)

        sys.addaudithook(audit)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.parametrize("names", ["own", "none"])
def test_a_kill_at_any_moment_leaves_the_old_state_or_the_new(tmp_path: Path, names: str) -> None:
    states, after, more = set(), 0, True
    while more:
        (tmp_path / str(after)).mkdir()
        project = Project(tmp_path / str(after), git=False)
        project.apply("tiny")
        project.edit("eval_windows: 8", "eval_windows: 9")
        more = killed(lambda project=project: project.apply(names), after)  # type: ignore[misc]
        now = in_force(project.root)
        states.add(now)
        assert now in ("tiny", "" if names == "none" else names)
        assert project["pretrain.eval_windows"] == 9
        assert project["model.d_model"] == (32 if now == "tiny" else 256)
        project.apply("none")
        assert project.text == TEXT.replace("eval_windows: 32", "eval_windows: 9")
        after += 1
    assert after >= 4
    assert states == {"tiny", "" if names == "none" else names}


# --- the front door ----------------------------------------------------------------------------------------


def pipeline(project: Project, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_the_command_says_what_is_in_force_and_whose_edits_are_whose(project: Project) -> None:
    assert pipeline(project, "profile") == "in force: no profile\nyour own edits: none\n"
    assert "in force: tiny+own" in pipeline(project, "profile", "tiny+own")
    project.edit("eval_windows: 8", "eval_windows: 9")
    assert pipeline(project, "profile") == (
        "in force: tiny+own\nyour own edits:\n  pretrain.eval_windows = 9  (committed: 32)\n"
    )
    assert pipeline(project, "profile", "none").startswith("in force: no profile")
    assert project.text == TEXT.replace("eval_windows: 32", "eval_windows: 9")
    known = sorted(path.stem for path in project.root.glob("profiles/*"))
    told = pipeline(project, "profile", "yours", code=64)
    assert told == f"error: profile 'yours': profiles/yours.yaml is missing; expected one of: {', '.join(known)}\n"


def test_a_value_that_stands_in_two_places_is_not_laid_over() -> None:
    """An anchor is one object in the file: laid over once, it would change wherever it is referred to."""
    text = "pretrain: &shared {max_steps: 9}\nother: *shared\n"
    with pytest.raises(ParameterError, match="a value that others refer to"):
        overlays.laid_over(text, {"pretrain": {"max_steps": 5}})
    assert overlays.laid_over(text, {"third": 1}).endswith("third: 1\n")
