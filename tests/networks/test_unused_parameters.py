"""Which parameters the loss leaves out, which several processes must know before they train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from nnmedseg.losses import list_losses
from nnmedseg.networks import list_networks
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.training.distributed import distributed, leaves_some_unused
from nnmedseg.training.losses import AuxiliaryLoss
from nnmedseg.training.objectives import PaperObjective

SMALL = json.loads(Path(__file__).with_name("small_options.json").read_text())
PAPERS_LOSS = {name: name for name in list_losses()} | dict.fromkeys(
    ("promise_apm", "promise_apm_ips", "promise_ips_gt"), "promise"
)


def planned(name):
    network = PlannedNetwork(3, 2, network=name, **SMALL.get(name, {}))
    network.auxiliary_in_training = True
    return network.train()


def without_gradient(network, loss):
    side = max(network.network.min_size, network.network.min_training_size)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, side, side, generator=generator)
    if network.network.needs_prompts:
        image = torch.cat([image, torch.ones(2, network.network.prompt_channels, side, side)], 1)
    target = torch.randint(2, (2, 1, side, side), generator=generator)
    loss(network(image), target).backward()
    return {k for k, p in network.named_parameters() if p.requires_grad and p.grad is None}


def cross_entropy(logits, target):
    return torch.nn.functional.cross_entropy(logits, target[:, 0].long())


@pytest.mark.parametrize("name", list_networks())
def test_with_nnunets_loss(name):
    network = planned(name)
    expected = leaves_some_unused(network, deep_supervision=False)
    unused = without_gradient(network, AuxiliaryLoss(cross_entropy))
    assert bool(unused) == expected


@pytest.mark.parametrize("name", list_networks())
def test_the_papers_own_loss_uses_all(name):
    network = planned(name)
    network.own_outputs_in_training = True
    assert not leaves_some_unused(network, deep_supervision=False)
    assert without_gradient(network, PaperObjective(PAPERS_LOSS[name], "corrected", 2)) == set()


@pytest.fixture
def alone_in_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone_in_group")
def test_a_network_with_unused_parameters_takes_a_second_step():
    network = planned("condseg")
    some_unused = leaves_some_unused(network, deep_supervision=False)
    wrapped = distributed(network, torch.device("cpu"), some_unused=some_unused)
    image = torch.randn(2, 3, *[network.network.min_size] * 2)
    for _ in range(2):  # PyTorch finds the missing gradients in the second
        sum(logits.mean() for logits in wrapped(image)).backward()


def test_with_the_first_output_only():
    network = planned("asc")
    network.auxiliary_in_training = False
    assert leaves_some_unused(network, deep_supervision=False)
    assert without_gradient(network, cross_entropy)
