"""``data/report/index.html``: one page that shows a whole run, to read, to print, to mail.

The page is made from whatever views, curves and records exist, may hold times and the machine, and is no stage:
nothing depends on it.  It is one file and asks the network for nothing.  Its scripts are BokehJS and ``charts.js``,
named by their sha256 in a content security policy that forbids everything else, and what they draw is data beside
them; so text written by a model can't become anything but text.  Without scripts the page is the same, with tables in
place of curves.

A view that can't be read is named in its place; a stage that has shown nothing is named under the DAG.  With 12
stages and 10 charts the page takes 1.4 s, more than half of it for importing Bokeh, and is 1.5 MB.
"""

import base64
import hashlib
import platform
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from gptcore.artifact import write_atomically
from pipeline.report import charts, dag, wording
from pipeline.report.blocks import Drawn, drawn
from pipeline.report.dag import Stage
from pipeline.report.files import Files
from pipeline.report.views import Damaged, ReadView, read_views
from pipeline.store.view import Block, Table

HERE = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "charts.js"


@dataclass(frozen=True)
class Section:
    """What the views with one title show."""

    id: str
    title: str
    blocks: list[Drawn]


def render(root: Path, out: Path, stages: Sequence[Stage] = (), left_out: Collection[str] = ()) -> Path:
    """Write the page about the project in ``root`` to ``out/index.html``; returns its path.

    Args:
        root: the project's folder; what is missing or damaged in it is said on the page.
        out: made if it is missing; a former page is replaced in one step.
        stages: the DAG.  Without it there is no drawing, and sections come by name.
        left_out: views that are not shown, as `read_views` has them.
    """
    page = Path(out) / "index.html"
    facts = _facts(Files(Path(root)), stages, left_out)
    text: str = _environment().get_template(TEMPLATE).render(**facts)
    write_atomically(page, text.encode("utf-8", errors="replace"))  # a lone surrogate in JSON is no UTF-8
    return page


def _facts(files: Files, stages: Sequence[Stage], left_out: Collection[str]) -> dict[str, Any]:
    """Everything that the template prints."""
    views = read_views(files.root, dag.order(stages), left_out)
    sections = _sections(views, files)
    scripts = _scripts(sections)
    return {
        "cards": _cards(views, sections),
        "dag": _dag(stages, {view.name for view in views}, files),
        "sections": sections,
        "reproduce": _reproduce(files),
        "scripts": scripts,
        "policy": _policy(scripts),
        "style": (HERE / STYLE).read_text(encoding="utf-8"),
        "commit": files.commit,
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "rendered": time.strftime("%Y-%m-%d %H:%M %Z"),
    }


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # Bokeh refers to what stands before
    return environment


# --- sections ---------------------------------------------------------------------------------------------


def _sections(views: Sequence[ReadView], files: Files) -> list[Section]:
    """One for each title, where the first view that has it stands; a view that can't be read has its own."""
    blocks: dict[str, list[Block | Damaged]] = {}
    for view in views:
        broken = [Damaged(view.problem)] if view.problem else [b for b in view.blocks if isinstance(b, Damaged)]
        if title := view.title or (view.name if broken else ""):
            _append(blocks.setdefault(title, []), view.blocks or broken)
    return [
        Section(_anchor(title, place), title, [drawn(block, files) for block in found])
        for place, (title, found) in enumerate(blocks.items())
    ]


def _append(section: list[Block | Damaged], blocks: Sequence[Block | Damaged]) -> None:
    """Add ``blocks``; a table that is headed like one of another view goes on there: a row for each of its stages."""
    former = {_heading(block): place for place, block in enumerate(section) if isinstance(block, Table)}
    for block in blocks:
        if isinstance(block, Table) and (place := former.get(_heading(block))) is not None:
            section[place] = replace(block, rows=[*cast(Table, section[place]).rows, *block.rows])
        else:
            section.append(block)


def _heading(table: Table) -> tuple[str, tuple[tuple[str, str], ...]]:
    return table.title, tuple(table.columns)


def _anchor(title: str, place: int) -> str:
    """An address that stays while the title does, and is no other section's."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f"view-{words[:40]}-{place}"


def _cards(views: Sequence[ReadView], sections: Sequence[Section]) -> list[dict[str, str]]:
    anchors = {section.title: section.id for section in sections}
    return [
        {
            "name": headline.name,
            "value": wording.printed(headline.value, headline.show),
            "unit": headline.unit,
            "beside": headline.beside,
            "meaning": headline.meaning,
            "anchor": anchors.get(view.title, ""),
        }
        for view in views
        for headline in view.headlines
    ]


# --- the DAG ----------------------------------------------------------------------------------------------


def _dag(stages: Sequence[Stage], shown: set[str], files: Files) -> dict[str, Any] | None:
    if not stages:
        return None
    boxes = {stage.name: _box(stage, shown, files.provenance) for stage in stages}
    waiting = [name for name in dag.order(stages) if not boxes[name]["done"]]
    layouts = {name: dag.layout(stages, name == "narrow") for name in ("wide", "narrow")}
    return {"boxes": boxes, "layouts": layouts, "waiting": waiting, "size": (dag.BOX_WIDTH, dag.BOX_HEIGHT)}


def _box(stage: Stage, shown: set[str], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    key = stage.name.replace("@", "-")
    done = key in shown or key in records
    seconds = records.get(key, {}).get("seconds")
    note = wording.duration(seconds) if wording.measured(seconds) else "done" if done else "not run yet"
    label = f"{stage.name}: {stage.description}" if stage.description else stage.name
    return {"lines": [*stage.name.split("@"), note], "label": label, "done": done}


# --- the last section -------------------------------------------------------------------------------------

_FIRST_COLUMNS = ("stage", "started", "seconds", "fingerprint")


def _reproduce(files: Files) -> dict[str, Any]:
    """How to make all this, and what is known of how it was made."""
    records = sorted(files.provenance.items(), key=lambda item: str(item[1].get("started", "")))
    names = {name for _, record in records for name, value in record.items() if not isinstance(value, dict | list)}
    columns = sorted(names - set(_FIRST_COLUMNS))
    spent = [record["seconds"] for _, record in records if wording.measured(record.get("seconds"))]
    return {
        "rows": [_record(name, record, columns) for name, record in records],
        "columns": [column.replace("_", " ") for column in columns],
        "spent": wording.duration(sum(spent)),
        "params": files.params,
    }


def _record(name: str, record: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    values = [wording.cut(wording.number(record.get(column)), 80) for column in columns]
    started = str(record.get("started", wording.DASH)).replace("T", " ")[:19]
    return {"name": name, "started": started, "time": wording.duration(record.get("seconds")), "values": values}


# --- scripts ----------------------------------------------------------------------------------------------


def _scripts(sections: Sequence[Section]) -> list[str]:
    """None on a page without a chart."""
    if not any(kind == "curves" for section in sections for kind, _ in section.blocks):
        return []
    return [charts.bundle(), (HERE / SCRIPT).read_text(encoding="utf-8")]


def _policy(scripts: Sequence[str]) -> str:
    """Nothing may be fetched or run but these scripts; Bokeh styles its elements in place."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
