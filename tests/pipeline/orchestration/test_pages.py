"""Both pages come up on loopback, show what ran, and go down whole."""

import http.client
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gptcore.errors import BusyError
from pipeline import locks
from pipeline.orchestration import pages

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = "import sys; from pipeline.orchestration.pages import ui; ui(int(sys.argv[1]), int(sys.argv[2]))"
REPRO = "import sys; from pipeline.orchestration import runner; sys.exit(runner.run(runner.flow))"
STAGE = """
import sys
from pathlib import Path
from ruamel.yaml import YAML
from pipeline.tracking import runs

name, out, *deps = sys.argv[1:]
value = YAML(typ="safe").load(Path("params.yaml"))[name]["value"]
with runs.run(name, f"{value}" * 64, {name: {"value": value}}, {}, {}) as tracker:
    for step in range(1, 6):
        tracker.log({"loss_nats_per_token": value / step}, step)
    tracker.finish({"accuracy": 0.125 + value})
Path(out).write_text(f"{name} {value}")
"""


def two_free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def test_a_taken_port_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < pages.free_port(port) < 65536
    assert pages.free_port(port) == port


def test_a_page_that_is_gone_has_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert pages.address("prefect") is None
    notes = tmp_path / "data" / ".scratch" / "ui" / "addresses.json"
    notes.parent.mkdir(parents=True)
    notes.write_text(
        json.dumps({"prefect": {"url": f"http://127.0.0.1:{two_free_ports()[0]}", "pid": 1, "started": 0}})
    )
    assert pages.address("prefect") is None


def test_a_second_one_is_refused_and_told_where_the_first_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    folder = tmp_path / "data" / ".scratch" / "ui"
    with locks.held(folder / "lock"):
        (folder / "addresses.json").write_text(json.dumps({"prefect": {"url": "http://127.0.0.1:4200"}}))
        with pytest.raises(BusyError, match=r"http://127\.0\.0\.1:4200"):
            pages.ui()


@pytest.mark.slow
def test_both_come_up_on_loopback_only_and_go_down_whole(toy, wait_for):
    ports = two_free_ports()
    opened = toy.start([sys.executable, "-c", PAGES, *map(str, ports)])
    notes = toy.root / "data" / ".scratch" / "ui" / "addresses.json"
    wait_for(notes.exists, 180)
    for port, health in zip(ports, ("/api/health", "/health"), strict=True):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=10) as answer:
            assert answer.status == 200
    members = family(opened.pid)
    listening = {c.laddr for p in members for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
    assert {place.port for place in listening} == set(ports)
    assert {place.ip for place in listening} == {"127.0.0.1"}
    opened.send_signal(signal.SIGINT)
    output, _ = opened.communicate(timeout=60)
    assert opened.returncode == 0, output
    assert all(f"http://127.0.0.1:{port}" in output for port in ports)
    assert not any(process.is_running() for process in members)
    assert not notes.exists()


def status(port: int, path: str, **headers: str) -> int:
    """What the server answers to a browser that sends these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def handshake(port: int, **headers: str) -> int:
    """What the server answers to the opening of a web socket."""
    opening = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", "/api/events/in", skip_host="Host" in headers)
    for name, value in {**opening, **key, **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    connection.close()
    return answer.status


@pytest.mark.slow
def test_both_answer_to_this_machine_only(toy, wait_for):
    """Another site can make a browser ask 127.0.0.1 (DNS rebinding); what it sends names that site."""
    ports = two_free_ports()
    opened = toy.start([sys.executable, "-c", PAGES, *map(str, ports)])
    wait_for((toy.root / "data" / ".scratch" / "ui" / "addresses.json").exists, 180)
    prefect, mlflow = ports
    experiment = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    for port, path in ((prefect, "/api/admin/version"), (prefect, "/"), (mlflow, experiment), (mlflow, "/")):
        for name in ("127.0.0.1", "localhost"):
            assert status(port, path, Host=f"{name}:{port}") == 200, (port, path)
        foreign = ("evil.org", f"evil.org:{port}", "10.evil.org", "127.0.0.1.evil.org", f"localhost@evil.org:{port}")
        for host in (*foreign, "", "[::1", f"192.168.0.1:{port}"):
            assert status(port, path, Host=host) in (400, 403), (port, path, host)
    assert status(prefect, "/api/admin/version", Origin=f"http://localhost:{prefect}") == 200
    assert status(prefect, "/api/admin/version", Origin="https://evil.org") == 403
    assert handshake(prefect) == 101
    assert handshake(prefect, Origin=f"http://127.0.0.1:{prefect}") == 101
    assert handshake(prefect, Origin="https://evil.org") == 403
    assert handshake(prefect, Host="evil.org") == 403
    opened.send_signal(signal.SIGINT)
    assert opened.wait(60) == 0


@pytest.mark.slow
def test_servers_that_outlived_a_killed_page_are_stopped_first(toy, wait_for):
    notes = toy.root / "data" / ".scratch" / "ui" / "addresses.json"
    first = toy.start([sys.executable, "-c", PAGES, *map(str, two_free_ports())])
    wait_for(notes.exists, 180)
    servers = family(first.pid)[1:]
    first.kill()
    first.wait()
    assert any(process.is_running() for process in servers)
    before = notes.read_text()
    second = toy.start([sys.executable, "-c", PAGES, *map(str, two_free_ports())])
    wait_for(lambda: notes.exists() and notes.read_text() != before, 180)
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in servers)
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0


# --- in a browser ---


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium with a profile of its own; its absence is an error where everything must be tested."""
    if not Path(CHROMIUM).exists():
        message = f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1400, "height": 1000}
        )
        yield context
        context.close()


@pytest.mark.browser
def test_the_pages_show_the_flow_run_and_two_runs_side_by_side(toy, wait_for, browser):
    (toy.root / "stage.py").write_text(STAGE)
    toy.environment["GPTCORE_TRACKING"] = "mlflow"
    ports = two_free_ports()
    prefect, mlflow = (f"http://127.0.0.1:{port}" for port in ports)
    opened = toy.start([sys.executable, "-c", PAGES, *map(str, ports)])
    wait_for((toy.root / "data" / ".scratch" / "ui" / "addresses.json").exists, 180)
    for value in (3, 4):
        toy.knobs("left", value=value)
        done = toy.run([sys.executable, "-c", REPRO])
        assert done.returncode == 0, done.stdout + done.stderr

    text = shown(browser, f"{prefect}/runs", "repro")
    assert "pipeline" in text
    run = ask(f"{prefect}/api/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]
    text = shown(browser, f"{prefect}/runs/flow-run/{run['id']}", "train_a")
    assert {name for name in ("seed", "left", "right", "both", "train_b") if name in text}
    assert "Completed" in text

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{toy.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("gptcore").experiment_id
    runs = client.search_runs([experiment], "tags.stage = 'left'", order_by=["start_time"])
    assert [run.data.params["left.value"] for run in runs] == ["3", "4"]
    ids = json.dumps([run.info.run_id for run in runs])
    text = shown(browser, f'{mlflow}/#/compare-runs?runs={ids}&experiments=["{experiment}"]', "left.value")
    assert "3.125" in text
    assert "4.125" in text
    assert "loss_nats_per_token" in text

    opened.send_signal(signal.SIGINT)
    assert opened.wait(60) == 0


def shown(browser: Any, url: str, awaited: str) -> str:
    """The text of the page at ``url`` once ``awaited`` is on it; a picture of it is kept if CI asks for one."""
    page = browser.new_page()
    page.goto(url)
    page.get_by_text(awaited).first.wait_for(timeout=60_000)
    page.wait_for_timeout(1000)
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{awaited}.png")
    text = page.inner_text("body")
    page.close()
    return str(text)


def ask(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
