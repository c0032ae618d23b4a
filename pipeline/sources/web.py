"""``https://…`` and ``http://…``: one file, which goes on by Range after an interruption.

A resumed download needs no If-Range: if the two parts don't fit, the pinned hash says so and the file is fetched once
more from its beginning.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from pipeline.sources.order import CHUNK_BYTES, Order, note, require_network

BACK_OFF_SECONDS: tuple[float, ...] = (1, 2, 4, 8)
"""Waits between the attempts, one attempt more than waits; a server's Retry-After counts if it is longer."""
MAX_RETRY_AFTER_SECONDS = 60.0
TIMEOUT_SECONDS = (10, 60)
"""To connect; between two pieces of the answer."""
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

T = TypeVar("T")


def problem_with_host(uri: str) -> str | None:
    """What is wrong with the host and port of ``uri``, or None."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname or "", parts.port  # both are only parsed when they are asked for
        host.encode("idna")
    except (ValueError, UnicodeError) as error:
        return f"the host or its port can't be read ({error}), found {uri!r}"
    return None if host else f"expected {parts.scheme}://HOST/…, found {uri!r}"


class Interrupted(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = min(retry_after, MAX_RETRY_AFTER_SECONDS)


def persist(what: str, attempt: Callable[[], T]) -> T:
    """Try again while ``attempt`` is ``Interrupted``; the last interruption is the caller's to explain."""
    for pause in BACK_OFF_SECONDS:
        try:
            return attempt()
        except Interrupted as problem:
            wait = max(pause, problem.retry_after)
            note(f"{what}: {problem}; trying again in {wait:g} s")
            time.sleep(wait)
    return attempt()


def from_web(order: Order) -> None:
    if order.part_is_right():
        return  # a former process was killed between the last byte and the rename
    require_network(order)
    if _download(order) and not order.part_is_right():
        note(f"{order.uri}: the resumed parts don't fit together; fetching it again from the beginning")
        order.part.unlink()
        _download(order)


def _download(order: Order) -> bool:
    """Fill the part file; True if it holds bytes of more than one answer."""
    try:
        return persist(order.uri, lambda: _one_answer(order))
    except Interrupted as problem:
        reason = f"no complete answer in {len(BACK_OFF_SECONDS) + 1} attempts ({problem})"
        raise order.unavailable(reason, "check the connection and the proxy settings") from problem


def _one_answer(order: Order) -> bool:
    """Ask once for what is missing and append it; True if something was there to append to."""
    have = order.part.stat().st_size if order.part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # so that offsets count the file's own bytes
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(order.uri, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer:
            offset = _accepted_offset(order, answer, have)
            _write(order, answer, offset)
            return offset > 0
    except requests.exceptions.SSLError as error:
        raise order.unavailable(
            f"its certificate is not trusted ({error})", "check REQUESTS_CA_BUNDLE and the clock"
        ) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise Interrupted(str(error) or type(error).__name__) from error
    except (
        requests.RequestException,
        ValueError,
    ) as error:  # urllib3's own, where a redirect leads to no possible host
        raise order.unavailable(f"can't be asked for ({error})", "correct the address") from error


def _accepted_offset(order: Order, answer: requests.Response, have: int) -> int:
    """Where the answer's bytes belong: ``have`` if the server goes on from there, 0 if it starts anew."""
    status = answer.status_code
    if status in TRANSIENT:
        raise Interrupted(f"HTTP {status}", _seconds(answer.headers.get("Retry-After", "")))
    if status == 200:
        return 0
    if status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        return have
    if status in (206, 416) and have:
        order.part.unlink()
        raise Interrupted(f"HTTP {status} does not go on where the file was left; starting anew")
    raise order.unavailable(f"HTTP {status} {answer.reason}", "correct the address or ask its owner")


def _write(order: Order, answer: requests.Response, offset: int) -> None:
    announced = answer.headers.get("Content-Length", "")
    total = offset + int(announced) if announced.isdigit() else None
    order.refuse_size(total or 0)
    with open(order.part, "ab" if offset else "wb") as file, _bar(order.name, total, offset) as bar:
        for chunk in answer.iter_content(CHUNK_BYTES):
            order.refuse_size(file.tell() + len(chunk))
            file.write(chunk)
            bar.update(len(chunk))


def _bar(name: str, total: int | None, offset: int) -> tqdm:
    """Progress on standard error, from the third second on; twice a minute where nobody is watching."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    return tqdm(desc=name, total=total, initial=offset, unit="B", unit_scale=True, delay=2, mininterval=seconds)


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdigit() else 0.0
