"""Laying parameters over others, and taking them off again, key by key, with every comment of the file kept.

What decides is always plain data (`plain_yaml`); what is written is the user's own text with values changed in it.  A
mapping is merged, anything else (a list too) is one value.  Values are equal if JSON writes them equally: 1, 1.0 and
true are three.

Rejected: a merge of lines, as git does it: an edit beside a line that a profile had changed would be a conflict.
"""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from gptcore.errors import ParameterError
from pipeline.contract import plain_yaml

_NOTHING = object()
Changes = Iterator[tuple[str, Any, Any]]
"""``pretrain.max_steps``, the one value and the other; None where there is none."""


def laid_over(text: str, overlay: Mapping[str, Any]) -> str:
    """The file's text with the overlay's values in it; refuses what would change others with them."""
    document, wanted = _with_comments(text), _plain(text)
    _merge(document, overlay)
    _merge(wanted, overlay)
    written = _written(document)
    if not _same(_plain(written), wanted):  # an anchor: the value stands in several places at once
        raise ParameterError("params.yaml: a profile sets a value that others refer to (`&`, `*`); write it out there")
    return written


def taken_off(now: str, applied: str, before: str) -> str:
    """The text ``now`` with everything as ``before`` that was laid over it then and not edited since.

    Where nothing was edited since ``applied``, that is the former text to the byte.
    """
    if now == applied:
        return before
    document, former = _with_comments(now), _with_comments(before)
    _revert(document, _plain(now), _plain(applied), _plain(before), former)
    return _written(document)


def changes(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> Changes:
    """Every value that differs, in the order of the other."""
    for key in [*other, *(key for key in one if key not in other)]:
        a, b, name = one.get(key, _NOTHING), other.get(key, _NOTHING), f"{above}{key}"
        if _same(a, b):
            continue
        if _is_branch(a, b):
            yield from changes(_branch(a), _branch(b), f"{name}.")
        else:
            yield name, None if a is _NOTHING else a, None if b is _NOTHING else b


def _merge(document: Any, overlay: Mapping[str, Any], *, in_section: bool = False) -> None:
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(document.get(key), Mapping):
            _merge(document[key], value, in_section=True)
        elif in_section and key not in document and document and isinstance(document, CommentedMap):
            document.insert(len(document) - 1, key, value)  # the last key holds the space before the next section
        else:
            document[key] = value


def _revert(document: Any, now: Any, applied: Any, before: Any, former: Any) -> None:
    """``former`` is ``before`` with its comments; ``document`` is ``now`` with its own, and is changed."""
    for key in {**applied, **before}:
        n, a, b = (each.get(key, _NOTHING) for each in (now, applied, before))
        if _same(a, b):
            continue
        if _is_branch(a, b) and isinstance(n, Mapping):
            _revert(document[key], n, _branch(a), _branch(b), former.get(key, {}))
            if b is _NOTHING and not document[key]:
                del document[key]
        elif not _same(n, a):
            continue  # edited since: it stays
        elif b is _NOTHING:
            del document[key]
        else:
            document[key] = former[key]


def _is_branch(a: Any, b: Any) -> bool:
    """Whether a key holds a mapping on both sides, or on one, and nothing on the other."""
    return all(value is _NOTHING or isinstance(value, Mapping) for value in (a, b)) and bool(_branch(a) or _branch(b))


def _branch(value: Any) -> Any:
    return {} if value is _NOTHING else value


def _same(a: Any, b: Any) -> bool:
    if a is _NOTHING or b is _NOTHING:
        return a is b
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _plain(text: str) -> dict[str, Any]:
    return plain_yaml.parse(text.encode("utf-8"), Path("params.yaml"))


def _keeping() -> YAML:
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _with_comments(text: str) -> Any:
    return _keeping().load(text)


def _written(document: Any) -> str:
    text = io.StringIO()
    _keeping().dump(document, text)
    return text.getvalue()
