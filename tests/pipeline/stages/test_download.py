"""The stage ``download`` from parameters to a verified ``data/raw``; sources are files, and a hub on this machine."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gptcore.artifact import open_verified
from gptcore.errors import DataError, ParameterError, SourceUnavailableError
from pipeline.contract import params
from pipeline.corpus.documents import read_documents, read_labelled
from pipeline.sources import web
from pipeline.stages.download import DownloadConfig, download
from pipeline.store.raw import Raw
from tests.hub_server import HubServer, save_tiny_gpt2

TALES = b"Title\tBody\nstring\tstring\n\tinclude=True\n\nOne\tOnce upon a time.\nTwo\tTwice.\nThree\n"
NEWS = b"Class\tText\nd\tstring\nclass\t\n\nup\tprofits rise \ndown\tprofits fall \n"
RANKS = b"IQ== 0\nIg== 1\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with three source files in ``shelf/``."""
    for name in ("GPTCORE_OFFLINE", "GPTCORE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(web, "BACK_OFF_SECONDS", (0,))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "own").mkdir(parents=True)
    (tmp_path / "shelf").mkdir()
    for name, content in {"tales.tab": TALES, "news.tab": NEWS, "ranks.tiktoken": RANKS}.items():
        (tmp_path / "shelf" / name).write_bytes(content)
    return tmp_path


def entry(name: str, content: bytes, **fields: Any) -> dict[str, Any]:
    pinned = {"uri": f"file://shelf/{name}", "sha256": hashlib.sha256(content).hexdigest(), "licence": "public domain"}
    return pinned | fields


def parameters(**changes: Any) -> dict[str, Any]:
    """The section ``download`` as params.yaml has it."""
    tab = {"format": "orange-tab"}
    labelled = {"role": "classification", "label_column": "Class", "labels": ["down", "up"], "split": "train"}
    return {
        "sources": {
            "tales": entry("tales.tab", TALES, role="corpus", text_column="Body", **tab),
            "news": entry("news.tab", NEWS, text_column="Text", **labelled, **tab),
            "ranks": entry("ranks.tiktoken", RANKS, role="vocabulary", format="tiktoken"),
        },
        "foundation": "",
        "use_own": False,
    } | changes


def config(project: Path, **changes: Any) -> DownloadConfig:
    YAML().dump({"download": parameters(**changes)}, project / "params.yaml")
    return params.load_stage("download", project / "params.yaml")["cfg"]


def run(project: Path, **changes: Any) -> dict[str, Any]:
    return download(project / "data" / "own", project / "data" / "raw", config(project, **changes)).metrics


def tree(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_sources_arrive_and_say_what_they_are(project: Path) -> None:
    metrics = run(project)
    raw = project / "data" / "raw"
    assert (raw / "tales" / "tales.tab").read_bytes() == TALES
    made = Raw.open(raw)
    documents, skipped = read_documents(made)
    assert [d.text for d in documents] == ["Once upon a time.", "Twice."]
    assert skipped == {"empty_row": 1, "short_row": 1}
    assert [(d.text, d.label) for d in read_labelled(made, "train")] == [
        ("profits rise ", "up"),
        ("profits fall ", "down"),
    ]
    assert made.labels() == ("down", "up")
    assert made.vocabulary_file().read_bytes() == RANKS
    assert {s.name: s.licence for s in made.entries} == dict.fromkeys(["news", "ranks", "tales"], "public domain")
    assert metrics == {
        "files": 3,
        "bytes": len(TALES) + len(NEWS) + len(RANKS),
        "sources": {
            "news": {"files": 1, "bytes": len(NEWS), "documents": 2, "skipped": {"empty_row": 1}},
            "ranks": {"files": 1, "bytes": len(RANKS)},
            "tales": {
                "files": 1,
                "bytes": len(TALES),
                "documents": 2,
                "skipped": {"empty_row": 1, "short_row": 1},
            },
        },
    }


def test_a_second_run_elsewhere_gives_the_same_bytes(project: Path) -> None:
    run(project)
    first = tree(project / "data" / "raw")
    order = dict(reversed(parameters()["sources"].items()))
    download(project / "data" / "own", project / "other" / "raw", config(project, sources=order))
    assert tree(project / "other" / "raw") == first
    assert str(project).encode() not in b"".join(first.values())


def test_after_the_first_run_the_sources_are_not_needed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(project)
    first = tree(project / "data" / "raw")
    for path in (project / "shelf").iterdir():
        path.unlink()
    monkeypatch.setenv("GPTCORE_OFFLINE", "1")
    run(project)
    assert tree(project / "data" / "raw") == first


def test_a_failure_leaves_what_was_there(project: Path) -> None:
    run(project)
    first = tree(project / "data" / "raw")
    changed = parameters()["sources"]
    changed["tales"]["sha256"] = "0" * 64
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}"):
        run(project, sources=changed)
    assert tree(project / "data" / "raw") == first
    assert [path.name for path in (project / "data").iterdir() if path.name.startswith(".raw")] == []


def test_a_wrong_column_is_noticed_at_once(project: Path) -> None:
    changed = parameters()["sources"]
    changed["tales"]["text_column"] = "Text"
    with pytest.raises(DataError, match=r"source 'tales' \(file://shelf/tales.tab\): expected one column 'Text'"):
        run(project, sources=changed)
    assert not (project / "data" / "raw").exists()


# --- the user's own text ---------------------------------------------------------------------------------


def own(project: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = project / "data" / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_own_text_takes_the_place_of_the_corpus(project: Path) -> None:
    own(
        project,
        {
            "b.txt": b"second\r\n",
            "a/deep.TXT": b"first",
            "lines.jsonl": b'{"text": "third"}\nbroken\n',
            "README.md": b"not this",
            ".hidden.txt": b"nor this",
            ".editor/draft.txt": b"nor this",
        },
    )
    metrics = run(project, use_own=True)
    raw = Raw.open(project / "data" / "raw")
    documents, skipped = read_documents(raw)
    assert [(d.source, d.file, d.index, d.text) for d in documents] == [
        ("own-text", "own-text/a/deep.TXT", 0, "first"),
        ("own-text", "own-text/b.txt", 1, "second\r\n"),
        ("own-jsonl", "own-jsonl/lines.jsonl", 0, "third"),
    ]
    assert skipped == {"invalid_json": 1}
    assert metrics["sources"]["own-jsonl"] == {
        "files": 1,
        "bytes": 25,
        "documents": 1,
        "skipped": {"invalid_json": 1},
    }
    assert len(read_labelled(raw, "train")) == 2  # labelled data and vocabulary stay
    assert raw.vocabulary_file().exists()


@pytest.mark.parametrize("files", [{}, {"README.md": b"x"}, {"empty.txt": b" \n"}, {"none.jsonl": b"{}\n"}])
def test_own_text_that_is_not_there(project: Path, files: dict[str, bytes]) -> None:
    own(project, files)
    with pytest.raises(DataError, match=r"data/own: download\.use_own is true, but there is no text; put \*\.txt"):
        run(project, use_own=True)


def test_own_text_in_another_encoding_is_named_as_the_user_knows_it(project: Path) -> None:
    own(project, {"good.txt": b"good", "old.txt": "Schöne Tage".encode("latin-1")})
    with pytest.raises(DataError, match=r"data/own/old\.txt: expected UTF-8, found byte 0xf6 at offset 3"):
        run(project, use_own=True)


def test_what_is_read_and_what_is_not_is_said(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [b'{"text": "a"}', b"broken", b"", b'{"text": "b"}', b"[1]", b"worse", b'{"text": " "}']
    own(project, {"tale.txt": b"tale", "table.csv": b"x", "README.md": b"ours", "l.jsonl": b"\n".join(lines)})
    metrics = run(project, use_own=True)
    folder = project / "data" / "own"
    assert [line for line in capfd.readouterr().err.splitlines() if str(folder) in line] == [
        f"download: {folder}: tale.txt taken as text",
        f"download: {folder}: l.jsonl taken as jsonl",
        f"download: {folder}: table.csv skipped: no format is known by this ending (known: .txt, .jsonl)",
        f"download: {folder}/l.jsonl: skipped 1 × empty_text (the first: byte 46), "
        "2 × invalid_json (the first: line 2), "
        "1 × missing_text (the first: line 5)",
    ]
    assert metrics["sources"]["own-jsonl"]["skipped"] == {
        "empty_row": 1, "empty_text": 1, "invalid_json": 2, "missing_text": 1
    }  # fmt: skip


def test_rows_that_a_source_loses_are_said_but_for_blank_ones(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(project)
    told = capfd.readouterr().err
    assert "source 'tales' (file://shelf/tales.tab): skipped 1 × short_row (the first: line 7)" in told
    assert "empty_row" not in told


@pytest.mark.timeout(20)
def test_own_text_that_nobody_can_read_is_refused_before_anybody_hangs(project: Path) -> None:
    own(project, {"tale.txt": b"tale"})
    os.mkfifo(project / "data" / "own" / "pipe.txt")
    with pytest.raises(DataError, match=r"pipe\.txt: a pipe, socket or device"):
        run(project)


def test_own_text_that_is_not_used_is_mentioned(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own(project, {"mine.txt": b"mine"})
    run(project)
    assert "download.use_own=true" in capfd.readouterr().err
    assert {d.source for d in read_documents(Raw.open(project / "data" / "raw"))[0]} == {"tales"}


# --- a foundation model ----------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    save_tiny_gpt2(tmp_path / "tiny")
    with HubServer({"owner/tiny": tmp_path / "tiny"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def test_a_foundation_comes_along_and_can_be_checked_alone(project: Path, hub: HubServer) -> None:
    pin = hashlib.sha256((project / "tiny" / "model.safetensors").read_bytes()).hexdigest()
    metrics = run(project, foundation="hf://owner/tiny@main", foundation_sha256=pin)
    foundation = project / "data" / "raw" / "foundation"
    facts = {"uri": f"hf://owner/tiny@{hub.commit('owner/tiny')}", "licence": "see the model's page"}
    assert open_verified(foundation, "foundation").config["sources"] == {"foundation": facts}
    assert (foundation / "vocab.json").read_bytes() == (project / "tiny" / "vocab.json").read_bytes()
    assert not (foundation / "pytorch_model.bin").exists()
    assert metrics["sources"]["foundation"]["files"] == 6
    assert [s.name for s in Raw.open(foundation.parent).having("foundation")] == ["foundation"]
    (foundation / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"foundation/config\.json"):
        Raw.open(foundation.parent)


def test_a_foundation_may_be_one_file_from_anywhere(project: Path) -> None:
    content = b"GGUF and so on"
    (project / "shelf" / "m.gguf").write_bytes(content)
    pin = hashlib.sha256(content).hexdigest()
    where = {"foundation": "file://shelf/m.gguf", "foundation_sha256": pin, "foundation_licence": "Apache-2.0"}
    assert run(project, **where)["sources"]["foundation"]["files"] == 2
    model = open_verified(project / "data" / "raw" / "foundation", "foundation")
    assert set(model.files) == {"m.gguf"}
    assert model.config["sources"] == {"foundation": {"uri": "file://shelf/m.gguf", "licence": "Apache-2.0"}}
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, found {pin}"):
        run(project, **where | {"foundation_sha256": "0" * 64})


def test_a_hub_out_of_reach_is_no_half_of_anything(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(SourceUnavailableError, match="hf://owner/tiny"):
        run(project, foundation="hf://owner/tiny")
    assert not (project / "data" / "raw").exists()


# --- parameters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("uri", "ftp://host/file", "uri: expected pypi://"),
        ("uri", "https://host/a\x1b[31mb", r"uri: an address holds no control characters, found 'https://host/a\\x1b"),
        ("uri", "https://host/a\x00b", "uri: an address holds no control characters"),
        ("uri", "file://a\nb", "uri: an address holds no control characters"),
        ("uri", "https://host/a%00b", "uri: the address must end in a file name"),
        ("uri", f"file://{'x' * 256}", "uri: the address must end in a file name of at most 255 bytes"),
        ("uri", "https://host:99999/a", "uri: the host or its port can't be read .Port out of range"),
        ("uri", "https://[::1/a", "uri: the host or its port can't be read .Invalid IPv6"),
        ("uri", f"https://{'x' * 64}.org/a", "uri: the host or its port can't be read"),
        ("uri", "https:///a", "uri: expected https://HOST/"),
        ("sha256", "abc", "sha256: expected 64"),
        ("licence", " ", "licence: expected the terms"),
        ("role", "vocabulary", "does not fit role 'vocabulary'"),
        ("role", "toy", "role"),
        ("format", "text", r"text_column: needed for formats .* keys \(csv, jsonl, .*\), and only there"),
        ("format", "xlsx", "format: expected csv, jsonl, orange-tab, text, tsv or tiktoken, found 'xlsx'"),
        ("text_column", "", "text_column: needed"),
        ("split", "train", "split, split_column: only for role classification"),
        ("label_column", "Class", "label_column, labels: needed for role classification, and only there"),
        ("labels", ["a", "a"], "labels: expected different ones"),
        ("colour", "red", "sources.tales.colour: unknown parameter"),
    ],
)
def test_a_bad_source_is_refused(tmp_path: Path, field: str, value: Any, complaint: str) -> None:
    changed = parameters()["sources"]
    changed["tales"][field] = value
    with pytest.raises(ParameterError, match=complaint):
        config(tmp_path, sources=changed)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sources": {}}, "at least one with role corpus, or use_own"),
        ({"sources": {"../evil": parameters()["sources"]["tales"]}}, "expected letters, digits"),
        ({"sources": {"foundation": parameters()["sources"]["tales"]}}, "neither 'foundation' nor a name that begins"),
        ({"sources": {"own-text": parameters()["sources"]["tales"]}}, "nor a name that begins with 'own-'"),
        ({"foundation": "openai-community/gpt2"}, "foundation: expected hf://OWNER/NAME@REVISION"),
        ({"foundation": "hf://a/b\x07@main"}, r"foundation: expected hf://.*\\x07"),
        ({"foundation": "hf://é/b"}, "foundation: expected hf://OWNER/NAME@REVISION in at most 200 ASCII"),
        ({"foundation": f"hf://a/{'b' * 300}"}, "foundation: expected hf://"),
        ({"foundation_sha256": "0" * 64}, "but foundation is empty"),
        ({"foundation_licence": "MIT"}, "foundation_licence: .* but foundation is empty"),
        ({"foundation": "ftp://host/m.gguf"}, "foundation: expected pypi://, .*, found 'ftp://host/m.gguf'"),
        ({"foundation": "https://host/m.bin"}, "foundation: expected hf://.*, or the address of a .gguf file"),
        ({"foundation": "https://host/m.gguf"}, "foundation_sha256: expected 64 lower-case hexadecimal digits"),
        ({"foundation": "hf://a/b@main", "foundation_sha256": "0"}, "foundation_sha256: expected 64 lower-case"),
    ],
)
def test_a_bad_section_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ParameterError, match=complaint):
        config(tmp_path, **changes)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    changed = parameters()["sources"]
    changed["tales"] |= {"sha256": "abc", "licence": ""}
    with pytest.raises(ParameterError, match=r"tales\.sha256: .*\n.*tales\.licence: "):
        config(tmp_path, sources=changed)


def test_dvc_can_override_the_switches(project: Path) -> None:
    """As ``dvc exp run -S`` does it, on the file."""
    from dvc.utils.hydra import apply_overrides

    config(project)
    overrides = [
        "download.use_own=true",
        "download.foundation=hf://openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "download.sources.tales.uri='pypi://other==1.0/other/tales.tab'",
        "~download.sources.news",
    ]
    apply_overrides(project / "params.yaml", overrides)
    changed = params.load_stage("download", project / "params.yaml")["cfg"]
    assert changed.use_own is True
    assert changed.foundation == "hf://openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e"
    assert changed.sources["tales"].uri == "pypi://other==1.0/other/tales.tab"
    assert set(changed.sources) == {"tales", "ranks"}


def test_sources_json_holds_no_clock_host_or_path(project: Path) -> None:
    run(project)
    entries = json.loads((project / "data" / "raw" / "sources.json").read_text())
    assert [set(entry) for entry in entries] == [{"name", "role", "layout", "split", "uri", "licence", "files"}] * 3
