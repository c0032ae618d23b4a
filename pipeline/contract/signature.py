"""Which sections of params.yaml a stage reads, found without importing the stage.

A stage imports PyTorch, scikit-learn or `transformers`; to check parameters one needs its dataclasses alone.  So the
signature of its function is read from the source, and only the modules are imported that its annotations come from.
A stage whose dataclass stands in its own module is imported whole: that is right, and slow where it is heavy.

Rejected: a list of sections (it would exist twice, and know stages by name), and a cache of what signatures say.
"""

import ast
import dataclasses
import importlib
from importlib.util import find_spec

from pipeline.contract import stage as contract
from pipeline.contract.stage import STAGES, section


def sections(stage: str) -> dict[str, type]:
    """Section of params.yaml → dataclass: what `contract.stage.sections` says, without importing the stage."""
    place = STAGES.place(stage)
    annotated = _annotations(place.module, place.attr)
    if annotated is None:
        return contract.sections(stage)
    kinds = {name: getattr(importlib.import_module(module), attribute) for name, (module, attribute) in annotated}
    return {
        section(stage, name): kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }


Annotation = tuple[str, tuple[str, str]]
"""Parameter, and the module and name of what it is annotated with."""


def _annotations(module: str, function: str) -> list[Annotation] | None:
    """Of each parameter; None unless every annotation is a name that the module imports from another one."""
    spec = find_spec(module)
    source = getattr(spec and spec.loader, "get_source", lambda _: None)(module)
    tree = ast.parse(source or "")
    imported = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and not node.level
        for alias in node.names
    }
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    if not found:
        return None
    arguments = [*found[0].args.posonlyargs, *found[0].args.args, *found[0].args.kwonlyargs]
    names = [(each.arg, each.annotation.id) for each in arguments if isinstance(each.annotation, ast.Name)]
    if len(names) < len(arguments) or not all(name in imported for _, name in names):
        return None
    return [(argument, imported[name]) for argument, name in names]
