"""``data/views/*.json`` → the views that the stages meant, checked piece by piece.

A view is read with pydantic against the dataclasses of `pipeline.store.view`, so a file that somebody else wrote or
half a file is found out here and not in the middle of drawing.  A file that isn't a view at all gives its problem
in a sentence; a bad headline or block gives a ``Damaged`` in its place, and what stands beside it is kept.

Rejected: checking the whole file as one thing (one wrong number would hide a section).
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import TypeAdapter, ValidationError

from pipeline.store.view import Block, Headline


@dataclass(frozen=True)
class Damaged:
    """Stands where a piece of a view could not be read or drawn."""

    kind: ClassVar[str] = "damaged"
    problem: str


@dataclass(frozen=True)
class ReadView:
    """A view as far as it could be read."""

    name: str
    """Of its file, without the suffix: that of the stage, ``-`` in place of ``@``."""
    title: str = ""
    headlines: Sequence[Headline] = ()
    blocks: Sequence[Block | Damaged] = ()
    quote: str = ""
    problem: str = ""
    """Why there is nothing else; empty if the file could be read."""


@dataclass(frozen=True)
class _Frame:
    """The outer form of the file; what is inside is checked one by one."""

    title: str
    headlines: Sequence[Any] = ()
    blocks: Sequence[Any] = ()
    quote: str = ""


_FRAME, _HEADLINE = TypeAdapter(_Frame), TypeAdapter(Headline)
_BLOCKS: dict[str, TypeAdapter[Any]] = {block.kind: TypeAdapter(block) for block in get_args(Block)}


def read_views(root: Path, stages: Sequence[str] = (), left_out: Collection[str] = ()) -> list[ReadView]:
    """The views of the project in the order of ``stages``; those of other stages after them, by name.

    ``left_out`` are files that nobody makes any more, relative to the project: of stages that are switched off.
    """
    order = {stage.replace("@", "-"): place for place, stage in enumerate(stages)}
    found = sorted((root / "data" / "views").glob("*.json"))
    files = [file for file in found if file.relative_to(root).as_posix() not in left_out]
    return sorted(map(read_view, files), key=lambda view: (order.get(view.name, len(order)), view.name))


def read_view(file: Path) -> ReadView:
    """The view in ``file``; never an error."""
    try:
        frame = _FRAME.validate_python(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        return ReadView(file.stem, problem=f"{file.name}: not a view: {_first(error)}")
    except (OSError, ValueError, RecursionError) as error:
        return ReadView(file.stem, problem=f"{file.name}: not JSON: {error}")
    headlines = [_checked(_HEADLINE, plain, "headline") for plain in frame.headlines]
    bad = [headline for headline in headlines if isinstance(headline, Damaged)]
    good = [headline for headline in headlines if not isinstance(headline, Damaged)]
    blocks = [*bad, *map(_block, frame.blocks)]
    named = [replace(b, problem=f"{file.name}: {b.problem}") if isinstance(b, Damaged) else b for b in blocks]
    return ReadView(file.stem, frame.title, good, named, frame.quote)


def _block(plain: Any) -> Block | Damaged:
    kind = plain.get("kind") if isinstance(plain, dict) else None
    if not isinstance(kind, str) or kind not in _BLOCKS:
        return Damaged(f"a block of an unknown kind: {str(kind)[:60]}")
    return _checked(_BLOCKS[kind], plain, kind)


def _checked(adapter: TypeAdapter[Any], plain: Any, what: str) -> Any:
    try:
        return adapter.validate_python(plain)
    except ValidationError as error:
        return Damaged(f"{what}: {_first(error)}")


def _first(error: ValidationError) -> str:
    """The first fault as ``place: what is wrong``."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ": ".join(part for part in (".".join(map(str, fault["loc"])), fault["msg"]) if part)
