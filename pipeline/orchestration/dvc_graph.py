"""The DAG as DVC sees it: which stages there are, in which order, and which of them have nothing to do.

``dvc.yaml`` is the only statement of the wiring.  DVC resolves its templates, joins outs to deps and
compares everything with ``dvc.lock``; this file only asks (0.4 s for a dozen stages, most of it imports).

A stage is *settled* when DVC calls it unchanged and every stage above it is settled too: only then is it
certain that no process needs to be started for it.  While another process runs a stage DVC refuses to say
(``LockError``); then nothing counts as settled, which costs 0.4 s a stage and never a wrong answer.

Rejected: parsing dvc.yaml ourselves (``foreach``, ``${…}`` and frozen stages would be read twice, and
differently), and ``with repo.lock`` (waits for itself when a locked method is called inside).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptcore.errors import BusyError, ParameterError
from pipeline.orchestration.dvc_program import harden


@dataclass(frozen=True)
class StageNode:
    """One stage and what the orchestrator needs to know about it."""

    name: str
    """As DVC addresses it: ``pretrain``, ``export@pretrain``."""
    description: str
    upstream: tuple[str, ...]
    """Names of the stages whose outs this one reads directly."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """``meta: {prefect: …}`` of the stage, as written; editing it makes nothing stale."""
    settled: bool = False
    """Nothing changed in it nor in any of its ancestors."""


def stages() -> list[StageNode]:
    """Every stage, each after the ones it depends on; none is looked at, so none counts as settled."""
    harden()
    from dvc.repo import Repo

    with Repo(uninitialized=True) as repo:
        return _nodes(repo, (), look=False)


def cache_folder(root: Path) -> Path:
    """Where DVC keeps its cache, as its settings say."""
    from dvc.repo import Repo

    with Repo(str(root), uninitialized=True) as repo:
        return Path(repo.cache.legacy.path) if repo.cache.legacy else root / ".dvc" / "cache"


def load_graph(targets: Sequence[str] = ()) -> list[StageNode]:
    """The stages that ``targets`` need (default: all of them), each after the ones it depends on."""
    harden()
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    try:
        with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
            return _nodes(repo, targets)
    except DvcException as error:
        raise ParameterError(f"dvc.yaml: {error}; `dvc stage list` shows the stages there are") from error


def status(targets: Sequence[str] = ()) -> list[tuple[StageNode, list[Any]]]:
    """The stages that ``targets`` need, each after the ones above it, with what DVC's status says has changed in it."""
    harden()
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    try:
        with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
            found = repo.status()
            return [(node, found.get(node.name, [])) for node in _nodes(repo, targets)]
    except LockError as error:
        raise BusyError(f"another process runs stages just now; ask again when it is done ({error})") from error
    except DvcException as error:
        raise ParameterError(f"dvc.yaml: {error}; `dvc stage list` shows the stages there are") from error


def _nodes(repo: Any, targets: Sequence[str], look: bool = True) -> list[StageNode]:
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    plan = plan_repro(graph, collect_stages(repo, targets) or None)
    planned = [stage for stage in plan if stage.cmd]  # what `dvc add` tracks is data, nothing to run
    names = [stage.addressing for stage in planned]
    changed = _changed(repo, names) if look else set(names)
    nodes: dict[str, StageNode] = {}
    for stage in planned:
        above = tuple(sorted(dep.addressing for dep in graph.successors(stage) if dep.cmd))
        settled = stage.addressing not in changed and all(nodes[name].settled for name in above)
        options = (stage.meta or {}).get("prefect", {})
        nodes[stage.addressing] = StageNode(stage.addressing, stage.desc or "", above, options, settled)
    return list(nodes.values())


def _changed(repo: Any, names: Sequence[str]) -> set[str]:
    from dvc.lock import LockError

    try:
        return set(repo.status())
    except LockError:
        return set(names)
