"""The user's own text, in a clone on the tiny profile: DVC sees it in every kind of experiment, git never."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECRET = "Nobody may ever read of the nineteen herons"
OWN = ["-S", "download.use_own=true"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    made = Clone(tmp_path_factory.mktemp("own") / "project")
    own = made.root / "data" / "own"
    (own / "sub dir").mkdir()
    (own / "heron.txt").write_text(f"{SECRET}.\n\n" * 50)
    (own / "sub dir" / "more.jsonl").write_text(json.dumps({"text": f"{SECRET} again. " * 20}) + "\n")
    made.more = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "t")
    made.more |= dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "t@t")
    made.more |= {"GPTCORE_TRACKING": "off"}
    made.run("python", "-c", "from pipeline.contract import profiles; profiles.apply('tiny')")
    made.git("commit", "-qam", "tiny")
    return made


def exp(clone: Clone, name: str, *arguments: str, code: int = 0) -> str:
    return clone.run("python", "-m", "pipeline", "exp", "-n", name, *OWN, *arguments, "tokenize", code=code)


def documents(clone: Clone, revision: str) -> dict[str, int]:
    """Source → documents, as the experiment's metrics in git have it."""
    text = clone.run("git", "show", f"{revision}:data/metrics/download.json")
    return {name: found["documents"] for name, found in json.loads(text)["sources"].items() if name.startswith("own")}


def reference(clone: Clone, name: str) -> str:
    names = clone.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return next(each for each in names if each.endswith(f"/{name}"))


def test_an_experiment_in_a_copy_without_the_text_says_how_to_start_it(clone: Clone) -> None:
    told = clone.run("dvc", "exp", "run", "--temp", *OWN, "download", code=255)
    assert "this experiment's copy lacks 2 of your files" in told
    assert "python -m pipeline exp" in told


def test_every_kind_of_experiment_reads_it(clone: Clone) -> None:
    exp(clone, "here")
    clone.git("checkout", "-q", "params.yaml")
    exp(clone, "in-a-copy", "--temp", "-S", "tokenizer.vocab_size=500")
    exp(clone, "queued", "--queue", "-S", "tokenizer.vocab_size=520")
    clone.run("dvc", "queue", "start")
    try:
        until = time.monotonic() + 120
        while "Success" not in (told := clone.run("dvc", "queue", "status")) and time.monotonic() < until:
            assert "Failed" not in told, clone.run("dvc", "queue", "logs", "queued")
            time.sleep(0.5)
    finally:
        clone.run("dvc", "queue", "stop", "--kill")
    for name in ("here", "in-a-copy", "queued"):
        assert documents(clone, reference(clone, name)) == {"own-text": 1, "own-jsonl": 1}, name


def test_dvc_sees_an_edit(clone: Clone) -> None:
    clone.run("dvc", "repro", "download")
    assert "up to date" in clone.run("dvc", "status", "download")
    path = clone.root / "data" / "own" / "heron.txt"
    before = path.read_bytes()
    path.write_bytes(before + b"One more.")
    assert "data/own" in clone.run("dvc", "status", "download")
    path.write_bytes(before)


def test_git_never_holds_it(clone: Clone) -> None:
    """After all of the above: not in the index after ``git add -A``, nor in any object, the experiments' included."""
    clone.git("add", "-A")
    assert clone.run("git", "ls-files", "data/own").split() == ["data/own/README.md"]
    clone.git("commit", "-qm", "all there is")
    assert not _objects_with(clone.root, SECRET[:20])
    assert not _objects_with(clone.root, "heron.txt")
    assert _objects_with(clone.root, "use_own: true")  # the search finds what is there


def _objects_with(root: Path, text: str) -> int:
    """How many of git's objects hold ``text``, reachable or not, of all kinds."""
    everything = subprocess.run(
        ["git", "cat-file", "--batch-all-objects", "--batch"], cwd=root, capture_output=True, check=True
    ).stdout
    return everything.count(os.fsencode(text))
