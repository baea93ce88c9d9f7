from dataclasses import replace

import pytest
import torch

from rcnn_tutorial.app.cost import Cost, announcement, step_cost, warning
from rcnn_tutorial.app.networks import new_detector
from rcnn_tutorial.app.planning import Wishes, decide
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.engine.guards import generators
from tests.app.folder import own_folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_dataset(own_folder(tmp_path_factory.mktemp("own") / "data"), "train")


def plan_of(dataset, **wishes):
    return decide(Wishes("data", **({"device": "cpu", "batch": 2} | wishes)), dataset)


def test_a_measured_step_leaves_no_trace(dataset):
    plan = plan_of(dataset)
    model = new_detector("fpn", "tiny", dataset.classes, plan.settings)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    states = {name: generator.get_state() for name, generator in generators(model).items()}
    cost = step_cost(model, dataset, plan)
    assert 0 < cost.seconds < 60 and cost.memory > 50e6
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())
    assert all(generator.get_state().equal(states[name]) for name, generator in generators(model).items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_checkpoints_are_two_minutes_apart():
    assert [Cost(seconds, None).checkpoint_every() for seconds in (0.0, 0.1, 1.0, 46.0, 500.0)] == [200, 200, 120, 3, 1]


def test_what_takes_long_is_announced_with_advice(dataset):
    plan = plan_of(dataset, backbone="resnet50", steps=1000)
    said = announcement(Cost(46.0, 6_000_000_000), plan)
    assert "One step takes 46 s, 6.0 GB of memory; 1000 steps take about 12 h 46 min, until about " in said
    assert "That is long. Shorter would be: --backbone tiny, --min-size 320, fewer --steps, a GPU" in said
    assert "500 steps take about" in announcement(Cost(1.0, None), plan, done=500)
    short = announcement(Cost(0.2, None), plan_of(dataset, steps=300))
    assert "300 steps take about 1 min 00 s" in short and "long" not in short and "memory" not in short


def test_a_residual_network_without_a_gpu_is_warned_of_before_its_first_step(dataset):
    said = warning(plan_of(dataset, backbone="resnet50"))
    assert "resnet50 at 800 pixels is slow without a GPU" in said and "--backbone tiny" in said
    assert warning(plan_of(dataset)) is None
    assert warning(replace(plan_of(dataset, backbone="resnet50"), device="cuda")) is None


@pytest.mark.gpu
def test_on_a_gpu_its_own_memory_counts(dataset):
    plan = plan_of(dataset, device="cuda", backbone="tiny")
    model = new_detector("fpn", "tiny", dataset.classes, plan.settings).to("cuda")
    assert step_cost(model, dataset, plan).memory <= torch.cuda.max_memory_allocated()
