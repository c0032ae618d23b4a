"""The last words of ``make repro``: the numbers, where to look, one generated text.

Made from the views, as the page is: a line for each headline, in the order of the stages.  Control characters are
taken out of a text, for a model wrote it and a terminal would obey.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pipeline.report.views import ReadView, read_views
from pipeline.report.wording import cut, printed
from pipeline.store.view import Headline, Note, Numbers

WIDTH = 17
"""Of the first column, in characters."""
_COMMAND = re.compile(r"python -m gptcore [^\n`]+")


def summary(root: Path, stages: Sequence[str] = (), left_out: Collection[str] = ()) -> str:
    """What came out, for a terminal; parts that are not there yet are left out.

    Args:
        root: the project's folder.
        stages: names of the stages in the order of the lines; views of others come after them, by name.
        left_out: views that are not told, as `read_views` has them.
    """
    views = read_views(Path(root), stages, left_out)
    lines = [_number(headline) for view in views for headline in view.headlines]
    lines += ["", *_places(Path(root), views)] if lines else list(_places(Path(root), views))
    if text := next((view.quote for view in views if view.quote), ""):
        lines += ["", "One text of the model, greedy:", f"  {_line(text)}"]
    return "\n".join(lines)


def _number(headline: Headline) -> str:
    beside = f" ({headline.beside})" if headline.beside else ""
    return _line(f"{headline.name:{WIDTH}} {printed(headline.value, headline.show)} {headline.unit}{beside}")


def _places(root: Path, views: Sequence[ReadView]) -> Iterator[str]:
    exports = sorted(path.name for path in (root / "data" / "export").glob("*") if path.is_dir())
    if any((root / "data" / "metrics").glob("*.json")):
        yield f"{'metrics':{WIDTH}} data/metrics/*.json        (dvc metrics show, dvc metrics diff)"
    if (root / "data" / "report" / "index.html").is_file():
        yield f"{'report':{WIDTH}} data/report/index.html"
    if exports:
        names = exports[0] if len(exports) == 1 else f"{{{','.join(exports)}}}"
        yield f"{'export':{WIDTH}} data/export/{names}"
        yield f"{'use it':{WIDTH}} {next(_commands(views), f'data/export/{exports[0]}')}"
    yield f"{'pages':{WIDTH}} make ui                    (MLflow and Prefect)"


def _commands(views: Sequence[ReadView]) -> Iterator[str]:
    """Commands for what was made, where a view tells one."""
    for block in (block for view in views for block in view.blocks):
        texts = [block.text] if isinstance(block, Note) else []
        texts += [str(value) for _, value, _ in block.values] if isinstance(block, Numbers) else []
        yield from (_line(command.group()) for text in texts for command in _COMMAND.finditer(text))


def _line(text: str) -> str:
    """On one line, columns kept, without control characters."""
    spaced = re.sub(r"\s*\n\s*", " ", text.strip().replace("\N{NARROW NO-BREAK SPACE}", " "))
    return cut("".join(character for character in spaced if character.isprintable()))
