"""The DAG is what DVC says it is."""

import json
import subprocess
import sys

import pytest

from gptcore.errors import ParameterError
from pipeline.orchestration.dvc_graph import load_graph, stages


def test_every_stage_follows_the_ones_it_needs(toy):
    nodes = load_graph()
    seen: set[str] = set()
    for node in nodes:
        assert seen.issuperset(node.upstream), node
        seen.add(node.name)
    assert seen == {"seed", "left", "right", "both", "train_a", "train_b"}
    upstream = {node.name: node.upstream for node in nodes}
    assert upstream["both"] == ("left", "right")
    assert upstream["seed"] == ()


def test_a_node_carries_description_and_policy(toy):
    node = next(node for node in load_graph() if node.name == "train_a")
    assert node.description == "makes train_a"
    assert node.options == {"tags": ["train"]}
    assert node.settled is False


def test_every_stage_is_there_without_being_looked_at(toy):
    assert toy.dvc("repro").returncode == 0
    nodes = stages()
    assert [(node.name, node.upstream) for node in nodes] == [(node.name, node.upstream) for node in load_graph()]
    assert not any(node.settled for node in nodes)


def test_targets_bring_their_ancestors_and_nothing_else(toy):
    assert [node.name for node in load_graph(["left"])] == ["seed", "left"]
    assert {node.name for node in load_graph(["left", "train_a"])} == {"seed", "left", "train_a"}


def test_an_unknown_target_is_one_message_that_names_it(toy):
    with pytest.raises(ParameterError, match=r"pretrane.*dvc stage list"):
        load_graph(["pretrane"])


def test_settled_means_nothing_changed_in_the_stage_or_above(toy):
    assert toy.dvc("repro").returncode == 0
    assert all(node.settled for node in load_graph())
    toy.knobs("left", value=1)
    settled = {node.name for node in load_graph() if node.settled}
    assert settled == {"seed", "right", "train_a", "train_b"}  # both: unchanged so far, but left will change it


def test_editing_the_policy_makes_nothing_stale(toy):
    assert toy.dvc("repro").returncode == 0
    toy.policy("left", retries=3)
    nodes = {node.name: node for node in load_graph()}
    assert nodes["left"].options == {"retries": 3}
    assert all(node.settled for node in nodes.values())


def test_foreach_stages_keep_dvcs_names(toy):
    wiring = (toy.root / "dvc.yaml").read_text()
    (toy.root / "dvc.yaml").write_text(
        wiring + "  export:\n    foreach: [left, right]\n    do:\n"
        "      cmd: cp ${item}.txt export-${item}\n      deps: ['${item}.txt']\n      outs: ['export-${item}']\n"
    )
    nodes = {node.name: node for node in load_graph()}
    assert nodes["export@left"].upstream == ("left",)


def test_while_dvc_is_busy_nothing_counts_as_settled(toy, wait_for):
    assert toy.dvc("repro").returncode == 0
    toy.knobs("left", seconds=20)
    toy.forget()
    running = toy.start(["dvc", "repro", "--single-item", "left"])
    wait_for(lambda: "left" in toy.ran())
    assert not any(node.settled for node in load_graph())
    running.kill()


def test_reading_the_graph_needs_neither_prefect_nor_mlflow(toy):
    code = (
        "import json, sys; from pipeline.orchestration.dvc_graph import load_graph; load_graph()\n"
        "print(json.dumps(list(sys.modules)))"
    )
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert not {"prefect", "mlflow"} & set(loaded)
