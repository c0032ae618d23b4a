"""A stage is a function, and its signature is the contract.

    def tokenize(raw: In, tokenizer: In, out: Out, split: SplitConfig) -> Outcome

An ``In`` is a path that it reads, an ``Out`` one that it writes; each is a flag of that name.  A dataclass is filled
from params.yaml: ``cfg`` from the section of the stage's own name, any other parameter from the section of its own.
An ``In`` that is named like a field of ``cfg`` is that parameter, and needs no flag: a ``cmd`` in dvc.yaml goes
through a shell, which must never see a parameter.  A ``Tracker`` is handed in.  What it gives back is its metrics and
what there is to show of them.

Stages are the modules of ``pipeline.stages``, each with a function of its name, and entry points of that name of
others'.  Nothing outside that folder knows which there are.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from gptcore.errors import ParameterError
from gptcore.seams import Seam
from pipeline.store.view import Outcome
from pipeline.tracking.tracker import Tracker

In = Annotated[Path, "read"]
"""A path that a stage reads."""
Out = Annotated[Path, "written"]
"""A path that a stage writes."""
StageFunction = Callable[..., Outcome]
OWN = "cfg"
"""The parameter that is filled from the section of the stage's own name."""

STAGES = Seam("pipeline.stages", "", dashes=False)


def function_of(stage: str) -> StageFunction:
    """The stage's function; imports its module and no other."""
    try:
        return STAGES[stage]  # type: ignore[no-any-return]
    except KeyError:
        raise ParameterError(f"{stage}: no stage of this name; expected one of {', '.join(STAGES.names())}") from None


def inputs(function: StageFunction) -> list[str]:
    """Names of the paths that it reads."""
    return _parameters(function, In)


def from_params(function: StageFunction) -> list[str]:
    """Names of the paths that it reads where a parameter of its own section says."""
    own = configs(function).get(OWN)
    fields = {field.name for field in dataclasses.fields(own)} if own else set()
    return [name for name in inputs(function) if name in fields]


def outputs(function: StageFunction) -> list[str]:
    """Names of the paths that it writes."""
    return _parameters(function, Out)


def takes_tracker(function: StageFunction) -> list[str]:
    """Names of the parameters that want a tracker: one or none."""
    return _parameters(function, Tracker)


def configs(function: StageFunction) -> dict[str, type]:
    """Parameter → dataclass."""
    return {
        n: hint for n, hint in _hints(function).items() if isinstance(hint, type) and dataclasses.is_dataclass(hint)
    }


def sections(stage: str) -> dict[str, type]:
    """Section of params.yaml → dataclass, for each dataclass parameter of the stage's function."""
    return {section(stage, name): kind for name, kind in configs(function_of(stage)).items()}


def section(stage: str, parameter: str) -> str:
    """The section of params.yaml that fills a parameter."""
    return stage if parameter == OWN else parameter


def _parameters(function: StageFunction, wanted: Any) -> list[str]:
    return [name for name, hint in _hints(function).items() if hint == wanted]


def _hints(function: StageFunction) -> dict[str, Any]:
    hints = typing.get_type_hints(function, include_extras=True)
    return {name: hints[name] for name in inspect.signature(function).parameters}
