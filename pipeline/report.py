"""``data/report/index.html``: one page that shows a whole run, to read, to print, to mail.

The page is a view.  It is made from whatever metrics, curves, samples and records exist, may hold times and the
machine, and is no stage: nothing depends on it.  It needs no server and asks the network for nothing: no
script, pictures drawn as inline SVG (`charts.py`), and a content security policy that forbids the rest, so
that text written by a model can't become anything but text.

What each section shows is in `report_sections.py`.  A part whose files are missing says that it has not run yet, one
whose files can't be understood says why; neither keeps the others from being shown.
"""

import platform
import time
from pathlib import Path
from typing import Any

from gptcore.artifact import write_atomically
from pipeline.numerals import duration, number, percent, size
from pipeline.report_files import Files
from pipeline.report_sections import SECTIONS

TEMPLATE = "report.html.j2"


def render(root: Path, out: Path) -> Path:
    """Write the page about the project in ``root`` to ``out/index.html``."""
    files = Files(Path(root))
    sections = {section.name: section.view(files) for section in SECTIONS}
    facts = {"sections": sections, "commit": files.commit, "machine": machine(), "rendered": _now()}
    page = Path(out) / "index.html"
    write_atomically(page, _environment().get_template(TEMPLATE).render(**facts).encode("utf-8"))
    return page


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def _environment() -> Any:
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=ChainableUndefined,
    )
    environment.filters |= {"number": number, "percent": percent, "size": size, "duration": duration}
    return environment


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z")
