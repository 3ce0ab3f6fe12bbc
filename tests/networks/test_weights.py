"""Checkpoints of the authors: loaded strictly or refused with a list."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.errors import NotFoundError, WeightsError
from nnmedseg.networks import create_network, list_networks
from nnmedseg.weights import from_reference, to_two_classes
from nnmedseg.weights.rosper import IMPORTER


@pytest.fixture(scope="module")
def rosper_state(load_golden):
    return load_golden("rosper")[1]


def same_state(network, other):
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in network.state_dict().items())


def test_the_network_is_ready_to_predict(rosper_state):
    network = from_reference("rosper", rosper_state)
    assert not network.training
    assert network.deep_supervision
    assert (network.input_channels, network.num_classes) == (3, 1)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "model_state_dict": state},
        lambda state: {"state_dict": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {name: torch.from_numpy(value) for name, value in state.items()},
        lambda state: {name.replace("msfe", "msea"): value for name, value in state.items()},
        lambda state: {**state, "total_ops": torch.zeros(1), "ph.ph1.total_params": torch.ones(1)},
    ],
    ids=["model_state_dict", "state_dict", "module", "tensors", "msea", "thop"],
)
def test_variants_load_the_same(rosper_state, wrap):
    expected = from_reference("rosper", rosper_state)
    assert same_state(from_reference("rosper", wrap(rosper_state)), expected)


def test_a_loaded_copy_does_not_share_memory(rosper_state):
    network = from_reference("rosper", rosper_state)
    with torch.no_grad():
        network.heads[0].project.bias.add_(1)
    assert not same_state(network, from_reference("rosper", rosper_state))


def test_a_missing_entry_is_named(rosper_state):
    state = {k: v for k, v in rosper_state.items() if k != "encoder.block2.pmb.mamba.A_log"}
    with pytest.raises(WeightsError, match=r"1 missing: encoder\.1\.pmm\.mamba\.A_log"):
        from_reference("rosper", state)


def test_an_entry_too_many_is_named(rosper_state):
    with pytest.raises(WeightsError, match=r"1 left over: encoder\.extra"):
        from_reference("rosper", {**rosper_state, "encoder.extra": torch.zeros(1)})


def test_a_wrong_shape_is_named(rosper_state):
    with pytest.raises(WeightsError, match=r"ph\.ph2\.pro\.bias \(5,\) instead of \(1,\)"):
        from_reference("rosper", {**rosper_state, "ph.ph2.pro.bias": torch.zeros(5)})


def test_another_networks_checkpoint_is_refused():
    with pytest.raises(WeightsError, match=r"encoder\.block1\.conv\.0\.weight"):
        from_reference("rosper", {"conv1.weight": torch.zeros(3, 3)})


def test_a_network_without_importer_names_those_with_one():
    with pytest.raises(NotFoundError, match="rosper"):
        from_reference("unet", {})


def test_sizes_are_read_from_shapes(rosper_state):
    options = {"widths": [8, 12, 16, 20], "d_state": 6, "d_conv": 3, "expand": 1}
    ours = create_network("rosper", 5, 3, **options).state_dict()
    theirs = {name: ours[IMPORTER.our_name(name)] for name in rosper_state}
    network = from_reference("rosper", theirs)
    assert (network.input_channels, network.num_classes) == (5, 3)
    assert network.options == options


@pytest.mark.parametrize("name", list_networks())
def test_two_classes_give_the_probabilities_of_one_logit(name, build_small):
    torch.manual_seed(0)
    network = build_small(name, 3, 1, deep_supervision=False).eval()
    image = torch.randn(1, 3, network.min_size, network.min_size)
    two = to_two_classes(network)
    assert two.num_classes == 2
    assert not two.training
    with torch.no_grad():
        torch.testing.assert_close(two(image).softmax(1)[:, 1:], network(image).sigmoid())


def test_only_one_logit_becomes_two_classes():
    with pytest.raises(WeightsError, match="has 3"):
        to_two_classes(create_network("rosper", 3, 3))
