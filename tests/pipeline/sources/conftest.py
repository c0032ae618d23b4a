"""What the tests of all ways to get a file share: no waiting, no network, a server that misbehaves to order."""

from collections.abc import Iterator

import pytest

from pipeline.sources import web as transport
from tests.pipeline.sources.web_server import WebServer


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting, no network, no settings of whoever runs the tests."""
    monkeypatch.setattr(transport, "BACK_OFF_SECONDS", (0, 0, 0, 0))
    for name in ("GPTCORE_OFFLINE", "GPTCORE_CACHE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()
