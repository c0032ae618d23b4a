"""Raw data, verified, under ``data/raw/<source>/``, and ``sources.json`` that says what each source is.

Every source is pinned by sha256 in params.yaml, so what arrives is either the bytes that were meant or an
error; where they come from (a mirror, the cache, a file put there by hand) can't matter.  The user's own
text in ``data/own`` takes the place of the corpus with one switch, ``download.use_own``, and single files
there are sources as ``own://PATH``; neither needs a pin: DVC hashes them as a dependency.

Each text is parsed here once, although only later stages use it: a wrong column name or a file that isn't
UTF-8 is then an error within the first seconds of a run, under the name the user knows.
"""

import shutil
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptcore.artifact import sha256_file
from gptcore.errors import DataError
from pipeline.contract.stage import In, Out
from pipeline.corpus.readers import READERS, Skipped, parse
from pipeline.corpus.splits import labelled_split
from pipeline.settings.download import OWN, VOCABULARY_FORMAT, DownloadConfig, SourceConfig
from pipeline.sources import foundation, own_text, pinned
from pipeline.sources.order import note
from pipeline.store.plain import as_plain
from pipeline.store.raw import Layout, Raw, RawFile, Source, write_sources
from pipeline.store.view import Outcome, Show, Table, View

OWN_LICENCE = "the user's own data"


def download(own: In, out: Out, cfg: DownloadConfig) -> Outcome:
    """Fill ``out`` with the sources of ``cfg``, or leave it as it was."""
    cache, sources = pinned.default_cache(), cfg.chosen()
    own_text.refuse_unreadable(own)
    if cfg.use_own or any(source.is_own for source in sources.values()):
        own_text.refuse_partial_copy(own)
    declared = {own_text.place(own, source.uri) for source in cfg.sources.values() if source.is_own}
    with Raw.create(out, as_plain(cfg)) as draft:
        collected = [_fetched(name, source, own, cache, draft) for name, source in sources.items()]
        _refuse_lack_of_examples(collected)
        collected += _own_text(own, draft, declared) if cfg.use_own else _unused(own, declared)
        if cfg.foundation:
            collected.append(_foundation(cfg, cache, draft))
        write_sources(draft, [source for source, _ in collected])
    return Outcome(_metrics(collected), _view(collected))


Collected = tuple[Source, dict[str, Any]]
"""A source and what to report about it."""


def _fetched(name: str, source: SourceConfig, own: Path, cache: Path, draft: Path) -> Collected:
    if source.is_own:
        origin = own_text.existing(own, source.uri, source.sha256)
    else:
        origin = pinned.fetch(source.uri, source.sha256, cache)
    uri, licence = ("", source.licence or OWN_LICENCE) if source.is_own else (source.uri, source.licence)
    held_out = source.test_fraction if source.is_split_by_hash else 0.0
    described = Source(name, source.role, source.layout, source.split, uri, licence, (), held_out)
    facts = {}
    if source.format != VOCABULARY_FORMAT:  # before the copy: it bounds what is copied
        facts = _parsed([(origin, f"source {name!r} ({source.uri})")], described)
    file = _copy(origin, draft, f"{name}/{pinned.file_name(source.uri)}")
    if source.sha256 not in ("", file.sha256):
        raise DataError(f"{draft / file.path}: the copy of {origin} is damaged; check the disk, then run again")
    return replace(described, files=(file,)), facts


def _refuse_lack_of_examples(collected: list[Collected]) -> None:
    """Labelled rows that leave nothing to learn from, or to be tested on, are told now and not after a training."""
    if not any("splits" in facts for _, facts in collected):
        return  # published splits only, each a file
    found: Counter[str] = Counter()
    for source, facts in collected:
        if source.role == "classification":
            found.update(facts.get("splits", {source.split: facts["documents"]}))
    if lacking := [split for split in ("train", "test") if not found[split]]:
        raise DataError(
            f"labelled sources: {found.total()} documents, none of them for {' and '.join(lacking)}; add documents, "
            "say `train` and `test` in a split_column, or change test_fraction (download.sources in params.yaml)"
        )


def _own_text(own: Path, draft: Path, declared: Collection[Path]) -> list[Collected]:
    """Everything readable in ``own`` but what is declared by name: each format is a source."""
    found = own_text.survey(own, _own_formats(), declared)
    for line in found.lines(own):
        note(line)
    collected = []
    for form, paths in found.taken.items():
        layout = Layout(form, text_column="text" if READERS[form].columns else "")
        name = f"{OWN}{form}"
        source = Source(name, "corpus", layout, "", "", "the user's own text", ())
        facts = _parsed([(path, own_text.spelled(path)) for path in paths], source)  # first: it bounds what is copied
        files = tuple(_copy(path, draft, f"{name}/{path.relative_to(own).as_posix()}") for path in paths)
        collected.append((replace(source, files=files), facts))
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


def _unused(own: Path, declared: Collection[Path]) -> list[Collected]:
    if files := sum(map(len, own_text.survey(own, _own_formats(), declared).taken.values())):
        note(f"{own} holds {files} files that are not used; download.use_own=true trains on them")
    return []


def _foundation(cfg: DownloadConfig, cache: Path, draft: Path) -> Collected:
    """The foundation has a manifest of its own, so its directory can be checked alone."""
    licence = cfg.foundation_licence or "see the model's page"
    model = foundation.fetch(cfg.foundation, cfg.foundation_sha256, licence, cache, draft / foundation.NAME)
    files = tuple(_described(path, draft) for path in sorted(model.iterdir()))
    return Source(foundation.NAME, "foundation", Layout("huggingface"), "", cfg.foundation, licence, files), {}


def _copy(origin: Path, draft: Path, name: str) -> RawFile:
    target = draft / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(origin, target)
    return _described(target, draft)


def _described(path: Path, draft: Path) -> RawFile:
    return RawFile(path.relative_to(draft).as_posix(), sha256_file(path), path.stat().st_size)


def _parsed(files: list[tuple[Path, str]], source: Source) -> dict[str, Any]:
    """Count the documents and the skipped rows of files, each with the name that an error gives it."""
    skipped: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for path, name in files:
        of_file = Skipped()
        with open(path, "rb") as stream:
            rows = parse(stream, source.layout, name, of_file)
            splits.update(labelled_split(source, row.split, row.text) for row in rows)
        _tell(name, of_file)
        skipped.update(of_file)
    facts: dict[str, Any] = {"documents": splits.total(), "skipped": dict(sorted(skipped.items()))}
    mixed = source.role == "classification" and not source.split
    return {**facts, "splits": dict(sorted(splits.items()))} if mixed else facts


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
