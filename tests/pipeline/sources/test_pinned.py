"""``fetch`` and its cache: the right bytes under their hash, asked for once; bad addresses refused before any work."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gptcore.errors import DataError, ParameterError, SourceUnavailableError
from pipeline.sources import pinned
from pipeline.sources.pinned import fetch
from tests.pipeline.sources.web_server import CONTENT, SHA256, WebServer

# --- the cache -------------------------------------------------------------------------------------------


def test_a_fetched_file_is_cached_under_its_hash(web: WebServer, tmp_path: Path) -> None:
    path = fetch(web.url, SHA256, tmp_path)
    assert path == tmp_path / SHA256
    assert path.read_bytes() == CONTENT
    assert fetch(web.url, SHA256, tmp_path) == path
    assert len(web.ranges) == 1


def test_a_damaged_cache_heals_itself(web: WebServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = fetch(web.url, SHA256, tmp_path)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert "damaged" in capfd.readouterr().err


def test_many_who_want_the_same_file_ask_once(web: WebServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(web.url, SHA256, tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(web.ranges) == 1


def test_a_kill_between_the_last_byte_and_the_rename_costs_no_request(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA256}.part").write_bytes(CONTENT)
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert web.ranges == []


def test_offline_only_the_cache_counts(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTCORE_OFFLINE", "1")
    for uri in (web.url, "pypi://anything==1.0/member"):
        with pytest.raises(SourceUnavailableError, match="GPTCORE_OFFLINE"):
            fetch(uri, SHA256, tmp_path)
    assert web.ranges == []
    (tmp_path / SHA256).write_bytes(CONTENT)
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT


# --- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host/file",
        "hf://owner/name@main",
        "no-scheme",
        "https://host/directory/",
        "https://user:secret@host/file.txt",
        "https://host/%2e%2e",
        "https://host/a%2fb",
        "pypi://name/member",
        "pypi://--index-url==1/member",
        "pypi://name==1;x/member",
        "pypi://name==1/../../etc/passwd",
        "pypi://name==1//etc/passwd",
        "pypi://name==1/a/../b",
        "pypi://name==1/a\\b",
        "file://",
    ],
)
def test_a_bad_address_is_refused_before_any_work(tmp_path: Path, uri: str) -> None:
    assert pinned.problem_with(uri)
    with pytest.raises(ParameterError):
        fetch(uri, SHA256, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("sha256", ["", "abc", SHA256.upper(), "../" + SHA256])
def test_a_bad_hash_is_refused_before_any_work(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(ParameterError, match="64 lower-case"):
        fetch("file://x", sha256, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_file_address_starts_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_bytes(CONTENT)
    assert pinned.default_cache() == tmp_path / "data" / ".cache" / "downloads"
    assert fetch("file://text/a.txt", SHA256, pinned.default_cache()).read_bytes() == CONTENT
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "text" / "b.txt"))):
        fetch("file://text/b.txt", "0" * 64, pinned.default_cache())
