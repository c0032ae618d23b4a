"""Overlays of params.yaml: ``profiles/NAME.yaml`` holds only what differs.

Applying a profile rewrites params.yaml, comments kept, in one atomic step, after the merged parameters were
checked; then an ordinary run follows, which may be killed and repeated like any other.  ``git checkout
params.yaml`` goes back.

Rejected: ``dvc exp run -S …``.  For the length of the run it detaches HEAD and stashes the user's edits; killed
in between, it leaves both so.  It can't set a key that params.yaml does not have, either.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from gptcore.artifact import write_atomically
from gptcore.errors import ParameterError
from pipeline.contract import params


def apply(profile: str, path: Path = params.PARAMS_FILE, directory: Path = Path("profiles")) -> None:
    """Merge the profile into the file at ``path``; nothing is written unless the result is valid."""
    overlay_path = directory / f"{profile}.yaml"
    if not overlay_path.is_file():
        known = ", ".join(sorted(p.stem for p in directory.glob("*.yaml"))) or "none"
        raise ParameterError(f"profile {profile!r}: {overlay_path} is missing; expected one of: {known}")
    keeping_comments = YAML()
    keeping_comments.width = 4096
    params.read(path)  # for its messages
    document = keeping_comments.load(path.read_text(encoding="utf-8"))
    _merge(document, params.read(overlay_path))
    text = io.StringIO()
    keeping_comments.dump(document, text)
    draft = path.with_name(f".{path.name}.{profile}")
    write_atomically(draft, text.getvalue().encode("utf-8"))
    try:
        params.check_all(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _merge(document: Any, overlay: Mapping[str, Any]) -> None:
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(document.get(key), Mapping):
            _merge(document[key], value)
        else:
            document[key] = value
