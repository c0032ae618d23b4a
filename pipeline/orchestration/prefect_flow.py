"""The DAG as a Prefect flow: one task a stage.  The only file that imports prefect.

DVC decides what is stale and holds the results; Prefect adds what DVC lacks: branches in parallel, retries,
timeouts, schedules, live logs and a page to watch it all on.  The graph comes from ``dvc_graph.py``, the
work is done by `dvc_process.py`; this file names no stage.  A stage's policy stands beside it in
dvc.yaml, where editing it makes nothing stale::

    meta: {prefect: {retries: 2, retry_delay_seconds: 10, timeout_seconds: 3600, tags: [train]}}

No server is needed: without one Prefect starts its own for the length of the run (10-15 s; 3 s with one).
`python -m pipeline ui` keeps one open, and runs find it by themselves.  A run does not depend on Prefect:
when its server doesn't answer, before or midway, the same graph is run by DVC alone.

Prefect's results are switched off.  They would be a second cache beside DVC's, and cloudpickle.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from prefect import Task, flow, get_run_logger, runtime
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, ValidationError

from gptcore.errors import GPTCoreError, ParameterError
from pipeline import project
from pipeline.orchestration import pages, processes
from pipeline.orchestration.dvc_graph import StageNode, load_graph
from pipeline.orchestration.dvc_process import Driver, StageFailed
from pipeline.orchestration.dvc_repro import plain

FINAL = frozenset({64, 65, 70, 130})  # bad parameters, bad data, non-finite loss, interrupted: a retry can't help


class Policy(BaseModel):
    """``meta: {prefect: …}`` of one stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retries: NonNegativeInt = 0
    """How often a failed stage is tried again; it resumes from its scratch."""
    retry_delay_seconds: NonNegativeFloat = 0
    timeout_seconds: PositiveFloat | None = None
    """After this the stage's whole process group is stopped; counted anew for each try."""
    tags: tuple[str, ...] = ()
    """Shown in Prefect; of ``train`` only one stage runs at a time."""

    @classmethod
    def of(cls, node: StageNode) -> "Policy":
        try:
            return cls.model_validate(node.options)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ParameterError(f"dvc.yaml: stage {node.name}: meta.prefect: {problems}") from None


def stage_task(node: StageNode, driver: Driver, force: bool) -> Task[[], State]:
    """The Prefect task that brings one stage up to date."""
    policy = Policy.of(node)
    codes: list[int] = []

    def stage() -> State:
        if node.settled and not force:
            return Completed(name="Unchanged", message="nothing changed in it or above it")
        try:
            outcome = driver.run(
                node.name, get_run_logger(), force=force, timeout_seconds=policy.timeout_seconds, tags=policy.tags
            )
        except StageFailed as failure:
            codes.append(failure.exit_code)
            return Failed(message=str(failure), data=failure.exit_code)  # a state, not a traceback
        return Completed(name=str(outcome))

    def worth_another_try(*_: Any) -> bool:
        return codes[-1] not in FINAL and not driver.stopped

    return Task(
        stage,
        name=node.name,
        task_run_name=node.name,
        description=node.description,
        tags=policy.tags,
        retries=policy.retries,
        retry_delay_seconds=policy.retry_delay_seconds,
        retry_condition_fn=worth_another_try,
        persist_result=False,
        cache_policy=NO_CACHE,
    )


def submit(nodes: Sequence[StageNode], driver: Driver, force: bool) -> dict[str, State]:
    """Run every stage as soon as those above it are done; returns each one's last state."""
    tasks = {node.name: stage_task(node, driver, force) for node in nodes}
    futures: dict[str, PrefectFuture[Any]] = {}
    try:
        for node in nodes:
            above = [futures[name] for name in node.upstream]
            futures[node.name] = tasks[node.name].submit(return_state=False, wait_for=above)
        for future in futures.values():
            future.wait()
    except BaseException:
        driver.stop()
        raise
    return {name: future.state for name, future in futures.items()}


def ending(states: dict[str, State]) -> State:
    """The flow's own state: failed when a stage did not complete; its data is the exit code."""
    ended = {name: state for name, state in states.items() if state.is_final()}
    bad = [state for state in ended.values() if not state.is_completed()]
    if not bad:
        return Completed(message=", ".join(f"{name}: {state.name}" for name, state in states.items()))
    reasons = [state.message or str(state.name) for state in bad]
    if held := [name for name in states if name not in ended]:
        reasons.append(f"not run, for they need what failed: {', '.join(held)}")
    return Failed(message="\n".join(reasons), data=_result(bad[0]) or 1)


def _run_name() -> str:
    return " ".join(["repro", *(runtime.flow_run.parameters["targets"] or ())])


@flow(name="pipeline", flow_run_name=_run_name, persist_result=False)
def pipeline(targets: list[str] | None = None, force: bool = False) -> State:
    """Bring the targets up to date, by default everything; with force unchanged stages run too."""
    try:
        states = submit(load_graph(targets or ()), Driver(), force)
    except GPTCoreError as error:
        return Failed(message=str(error), data=error.exit_code)
    _insist_on_server()  # a server that hung meanwhile would hold the rest up for minutes
    with suppress(Exception):  # the table is for the page; the states are what counts
        create_table_artifact(key="stages", table=table(states), description="What was done with each stage")
    return ending(states)


def table(states: dict[str, State]) -> list[dict[str, str]]:
    """One row a stage, for people."""
    return [{"stage": name, "state": state.name or "", "said": state.message or ""} for name, state in states.items()]


def run_flow(targets: Sequence[str] = (), force: bool = False) -> int:
    """Bring ``targets`` up to date under Prefect, or plainly where it doesn't work; returns the exit code."""
    project.quiet()
    try:
        _insist_on_server()
        with processes.interruptible():  # not round `plain`, which leaves signals to DVC and its stage
            state = pipeline(list(targets), force, return_state=True)
    except Exception as error:  # stages end in states: an exception is Prefect's own trouble
        print(f"Prefect: {error!r}; going on without it", file=sys.stderr)
        return plain(targets, force)
    print(state.message, file=sys.stderr if state.is_failed() else sys.stdout)
    return 0 if state.is_completed() else _result(state) or 1


def _insist_on_server() -> None:
    if (server := PREFECT_API_URL.value()) and not pages.answers(server):
        raise ConnectionError(f"no answer from {server}")


def _result(state: State) -> int:
    """The exit code that a failed state carries; 0 where there is none."""
    data = state.result(raise_on_failure=False)
    return data if isinstance(data, int) else 0
