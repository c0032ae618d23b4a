"""``data/raw``: the files as they were fetched, and ``sources.json``, which says what each source is.

Later stages need no parameters of ``download``: what they must know of a source is written beside it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gptcore.artifact import write_json
from gptcore.errors import DataError
from gptcore.ranges import later
from pipeline.store.artifact import REMEDY, Artifact
from pipeline.store.plain import as_plain

SOURCES = "sources.json"

Role = Literal["corpus", "classification", "vocabulary", "foundation"]


@dataclass(frozen=True)
class Layout:
    """How the documents lie in a source's files."""

    format: str
    """A reader (`pipeline.corpus.readers`), or ``tiktoken`` and ``huggingface``, which hold no documents."""
    text_column: str = ""
    """Column or key of the text, where the format has such."""
    label_column: str = ""
    """Column or key of the label; empty: no labels."""
    labels: tuple[str, ...] = ()
    """Every label there may be; the position is the class index."""
    split_column: str = later("")
    """Column or key that says ``train``, ``val`` or ``test``; empty: no such."""


@dataclass(frozen=True)
class RawFile:
    path: str
    """Relative to ``data/raw``, with forward slashes."""
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Source:
    """One entry of ``sources.json``."""

    name: str
    role: Role
    layout: Layout
    split: str
    """``train``, ``val`` or ``test`` of labelled data; empty: its rows say so, or it is not split at its origin."""
    uri: str
    licence: str
    files: tuple[RawFile, ...]
    test_fraction: float = later(0.0)
    """Share of labelled data that is not split at its origin that is held out for testing."""


class Raw(Artifact):
    KIND = "raw"

    @cached_property
    def entries(self) -> list[Source]:
        """Every source."""
        try:
            return [_source(**entry) for entry in json.loads((self.path / SOURCES).read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self.path / SOURCES}: not a list of sources ({error}); {REMEDY}") from None

    def having(self, role: Role) -> list[Source]:
        return [source for source in self.entries if source.role == role]

    def labels(self) -> tuple[str, ...]:
        """The declared labels; the position of a label is its class index."""
        declared = {source.layout.labels for source in self.having("classification")}
        if len(declared) != 1:
            raise DataError(f"{self.path}: expected one list of labels for all labelled sources, found {len(declared)}")
        return declared.pop()

    def vocabulary_file(self) -> Path:
        """The file of byte-pair ranks."""
        files = [file for source in self.having("vocabulary") for file in source.files]
        if len(files) != 1:
            raise DataError(
                f"{self.path}: expected one vocabulary file, found {len(files)}; give one source of params.yaml "
                "`role: vocabulary`, or train an own vocabulary"
            )
        return self.path / files[0].path

    def described(self, role: Role) -> dict[str, dict[str, str]]:
        """Name → where it comes from and under which terms, for the cards of what is made from it."""
        return {source.name: {"uri": source.uri, "licence": source.licence} for source in self.having(role)}


def write_sources(raw: Path, sources: Iterable[Source]) -> None:
    write_json(raw / SOURCES, [as_plain(source) for source in sources])


def _source(*, layout: dict[str, Any], files: list[dict[str, Any]], **fields: Any) -> Source:
    layout = {**layout, "labels": tuple(layout["labels"])}
    return Source(layout=Layout(**layout), files=tuple(RawFile(**file) for file in files), **fields)
