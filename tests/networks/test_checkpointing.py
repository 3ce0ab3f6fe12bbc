"""Activation checkpointing: the same training with less memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nnmedseg.networks import get_network_class, list_networks
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.checkpointing import blocks, checkpoint_blocks
from nnmedseg.planners.memory import measure_training_memory

EVERY_NETWORK = pytest.mark.parametrize("name", list_networks())
# Their memory is largest in the frozen image encoder, of which nothing is kept anyway.
MOSTLY_FROZEN = {"promise_apm", "promise_apm_ips", "promise_ips_gt"}


@pytest.fixture
def pair(name, build_small):
    """A network, and a copy that computes its blocks again."""
    torch.manual_seed(0)
    network = build_small(name, 3, 2).train()
    again = copy.deepcopy(network)
    checkpoint_blocks(again)
    return network, again


@pytest.fixture
def image(name):
    side = max(get_network_class(name).min_size, 16)
    return torch.randn(2, 3, 2 * side, 3 * side, generator=torch.Generator().manual_seed(0))


def trained(network, image):
    """The loss of a step, with the gradients of all parameters."""
    torch.manual_seed(1)
    outputs = network(image)
    maps = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    loss = torch.stack([x.square().mean() for x in maps]).sum()
    loss.backward()
    return loss, {key: x.grad for key, x in network.named_parameters() if x.grad is not None}


def buffers(network):
    return {key: buffer.clone() for key, buffer in network.named_buffers()}


@EVERY_NETWORK
def test_loss_gradients_and_running_statistics_are_the_same(pair, image):
    (loss, gradients), (loss_again, gradients_again) = (trained(x, image) for x in pair)
    torch.testing.assert_close(loss_again, loss)
    torch.testing.assert_close(gradients_again, gradients)
    torch.testing.assert_close(buffers(pair[1]), buffers(pair[0]))


@EVERY_NETWORK
def test_parameters_keep_their_names(pair):
    assert pair[0].state_dict().keys() == pair[1].state_dict().keys()


@EVERY_NETWORK
def test_evaluation_gives_the_same(pair, image):
    network, again = (x.eval() for x in pair)
    with torch.no_grad():
        torch.testing.assert_close(again(image), network(image), rtol=0, atol=0)


@pytest.mark.slow
@EVERY_NETWORK
def test_a_step_takes_less_memory(name):
    def measured(checkpointing):
        def build():
            network = PlannedNetwork(3, 2, network=name, checkpointing=checkpointing)
            network.auxiliary_in_training = True
            return network

        return measure_training_memory(build, 3, (256, 256)).per_sample

    factor = 1 if name in MOSTLY_FROZEN else 0.8
    assert measured(True) <= factor * measured(False)


class Noisy(nn.Sequential):
    """A block with what is random and with what changes in training."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5), nn.BatchNorm2d(3)))


def test_dropout_drops_the_same_the_second_time():
    network = Noisy().train()
    again = copy.deepcopy(network)
    checkpoint_blocks(again)
    image = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(trained(again, image), trained(network, image))


def test_batches_are_counted_once():
    network = Noisy().train()
    checkpoint_blocks(network)
    trained(network, torch.randn(4, 3, 8, 8))
    norm = network[0][2]
    assert (norm.num_batches_tracked.item(), norm.momentum) == (1, 0.1)


def test_a_copy_computes_with_its_own_parameters():
    network = Noisy().train()
    checkpoint_blocks(network)
    other = copy.deepcopy(network)
    image = torch.randn(4, 3, 8, 8)
    trained(other, image)
    assert all(x.grad is None for x in network.parameters())


def test_a_frozen_block_is_not_computed_again():
    assert not blocks(Noisy().requires_grad_(False))


def test_a_fused_copy_predicts_the_same(build_small):
    network = PlannedNetwork(3, 2, network="asc", checkpointing=True).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.fuse()(image), network(image), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_an_exported_program_has_every_operation_once():
    network = PlannedNetwork(3, 2, network="condseg_stage1", checkpointing=True).eval()
    plain = PlannedNetwork(3, 2, network="condseg_stage1").eval()
    image = torch.randn(1, 3, 32, 32)
    programs = [torch.export.export(x, (image,)).graph for x in (network, plain)]
    assert len(programs[0].nodes) == len(programs[1].nodes)
