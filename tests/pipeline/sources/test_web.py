"""Files from the web, fetched from a real server that is hostile most of the time."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError, SourceUnavailableError
from pipeline.sources import web as transport
from pipeline.sources.pinned import fetch
from tests.pipeline.sources.web_server import CONTENT, SHA256, WebServer

ROOT = Path(__file__).parents[3]


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


def test_a_redirect_to_an_impossible_host_is_the_servers_fault(web: WebServer, tmp_path: Path) -> None:
    web.script = ["redirects_nowhere"]
    with pytest.raises(SourceUnavailableError, match="can't be asked for"):
        fetch(web.url, SHA256, tmp_path)


def test_a_server_that_falls_silent_is_left(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TIMEOUT_SECONDS", (1, 0.2))
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
    program = "from pathlib import Path; from pipeline.sources.pinned import fetch; "
    program += f"fetch({web.url!r}, {SHA256!r}, Path('.'))"
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


def test_too_long_a_remainder_of_another_file_is_dropped(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA256}.part").write_bytes(CONTENT + b"more")
    assert fetch(web.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert web.ranges == [f"bytes={len(CONTENT) + 4}-", ""]
