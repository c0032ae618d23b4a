"""The page in headless Chromium: silent, on every screen, its curves to hover and zoom, on paper."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PLOT = "[...Bokeh.index].find((view) => view.model.toolbar)"
RANGES = f"(({{x_range, y_range}}) => [x_range.start, x_range.end, y_range.start, y_range.end])({PLOT}.model)"
DRAWN = "typeof Bokeh == 'undefined' || [...document.querySelectorAll('.chart details')].every((table) => !table.open)"

pytestmark = pytest.mark.browser
Open = Callable[..., tuple[Any, list[str]]]


@pytest.fixture
def open_page(tmp_path: Path, page_of: Callable[[Path], Any]) -> Iterator[Open]:
    """Render and open the page about a project; returns it and what it said and asked for, which should be nothing."""
    if not Path(CHROMIUM).exists():
        message = f"{CHROMIUM} is missing: the page was not tried in a browser (apt-get install chromium)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        def opened(root: Path, width: int = 1280, scheme: Any = "light", **options: Any) -> tuple[Any, list[str]]:
            page_of(root)
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
            noise: list[str] = []
            page.on("console", lambda message: noise.append(message.text))
            page.on("pageerror", lambda error: noise.append(str(error)))
            page.on("request", lambda request: request.url.startswith(("file:", "data:")) or noise.append(request.url))
            page.goto((root / "data/report/index.html").as_uri())
            if options.get("java_script_enabled", True):
                wait_until(page, DRAWN)
            return page, noise

        try:
            yield opened
        finally:
            browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("filled", [True, False], ids=["whole run", "empty"])
def test_the_page_fits_the_screen_in_silence(
    tmp_path: Path, open_page: Open, request: pytest.FixtureRequest, width: int, scheme: str, filled: bool
) -> None:
    root = request.getfixturevalue("run") if filled else tmp_path
    page, noise = open_page(root, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert noise == []
    assert page.locator("canvas:visible").count() == (2 if filled else 0)  # Bokeh's two layers
    shown = [svg.get_attribute("class") for svg in page.locator("svg.dag:visible").all()]
    assert shown == ["dag narrow" if width == 390 else "dag wide"]
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{width}-{scheme}-{'full' if filled else 'empty'}.png", full_page=True)


def test_hovering_a_curve_tells_its_values(run: Path, open_page: Open) -> None:
    page, noise = open_page(run)
    _over_the_plot(page, 0.5)
    tooltip = page.locator(".bk-tooltip-row-value:visible")
    tooltip.first.wait_for()
    values = [float(value.replace(",", "")) for value in tooltip.all_inner_texts()]
    step, cost = values[0], values[1]
    assert 300 < step < 800
    assert 2.5 < cost < 3.5
    assert noise == []


def test_dragging_zooms_and_a_double_click_goes_back(run: Path, open_page: Open) -> None:
    page, noise = open_page(run)
    before = page.evaluate(RANGES)
    x, y = _over_the_plot(page, 0.4)
    page.mouse.down()
    page.mouse.move(x + 100, y + 40, steps=5)
    page.mouse.up()
    wait_until(page, f"{RANGES}[0] > {before[0]} + 100")
    start, end, low, high = page.evaluate(RANGES)
    assert before[0] < start < end < before[1]
    assert before[2] < low < high < before[3]
    page.mouse.dblclick(x, y)
    wait_until(page, f"{RANGES}[0] == {before[0]}")
    assert noise == []


def test_axes_follow_the_colours_of_the_page(run: Path, open_page: Open) -> None:
    page, _ = open_page(run)
    painted = "document.querySelector('.plot').firstElementChild.shadowRoot.querySelector('canvas, .bk-Canvas')"
    picture = (
        f"(({{shadowRoot}}) => (shadowRoot ?? {painted}.shadowRoot).querySelector('canvas').toDataURL())({painted})"
    )
    light = page.evaluate(picture)
    page.emulate_media(color_scheme="dark")
    wait_until(page, f"{picture} != {light!r}")


def test_without_scripts_tables_stand_for_the_curves(run: Path, open_page: Open) -> None:
    page, _ = open_page(run, java_script_enabled=False)
    assert page.locator(".chart td:visible").count() == 8
    assert page.locator("svg.dag:visible").count() == 1


def test_the_page_prints(run: Path, open_page: Open) -> None:
    page, noise = open_page(run, scheme="dark")
    printed = page.pdf(format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "15mm"))
    assert printed.startswith(b"%PDF")
    assert noise == []
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()


def test_a_blocked_script_stays_blocked(run: Path, open_page: Open) -> None:
    page, noise = open_page(run)
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'ran = 1'}))")
    assert page.evaluate("typeof ran") == "undefined"
    assert any("Content Security Policy" in said for said in noise)


def wait_until(page: Any, condition: str, seconds: float = 20) -> None:
    """Ask from outside: Playwright's ``wait_for_function`` evaluates a string in the page, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never came: {condition[:300]}"
        page.wait_for_timeout(50)


def _over_the_plot(page: Any, part: float) -> tuple[float, float]:
    """Move the pointer over the plot, ``part`` of its width from the left; returns where it is."""
    plot = page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    x, y = box["x"] + part * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x, y)
    return x, y
