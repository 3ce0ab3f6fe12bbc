"""Training memory measured without computing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from nnmedseg.errors import UserError
from nnmedseg.networks import get_network_class, list_networks
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.planners._live_memory import LiveMemory, Moment
from nnmedseg.planners.memory import (
    CONTEXT_BYTES,
    TrainingMemory,
    measure_training_memory,
    nnunet_loss,
    sum_over_outputs,
)

from .measured_networks import NETWORKS, Squares, u_net

EVERY_NETWORK = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)


def real_peak(network, image, optimizer):
    """The most bytes of tensors that are alive in the second step of a real training on a CPU."""
    network.train()
    target = torch.zeros(image.shape[0], 1, *image.shape[2:])
    loss = sum_over_outputs(nnunet_loss())
    live = LiveMemory(batch=1)

    def step():
        optimizer.zero_grad(set_to_none=True)
        outputs = network(image)
        loss(outputs, target).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()

    step()
    optimizer.zero_grad(set_to_none=True)
    state = [x for values in optimizer.state.values() for x in values.values()]
    live.add([*network.parameters(), *network.buffers(), image, target, *state])
    with live:
        step()
    return live.peaks[2].fixed + live.peaks[2].per_sample


@EVERY_NETWORK
@pytest.mark.parametrize("patch", [(64, 96), (96, 32)])
def test_a_real_step_needs_what_is_predicted(build, patch):
    network = build()
    optimizer = torch.optim.AdamW([x for x in network.parameters() if x.requires_grad])
    predicted = measure_training_memory(build, 3, patch, mixed_precision=False)
    measured = real_peak(network, torch.randn(2, 3, *patch), optimizer)
    assert predicted.total(2) == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("batch", [3, 20])
def test_a_larger_batch_needs_what_is_predicted(batch):
    network = u_net()
    optimizer = torch.optim.AdamW(network.parameters())
    predicted = measure_training_memory(u_net, 3, (32, 32), mixed_precision=False)
    measured = real_peak(network, torch.randn(batch, 3, 32, 32), optimizer)
    assert predicted.total(batch) == pytest.approx(measured, rel=0.01)


def test_volumes_are_measured_too():
    build = partial(u_net, 3)
    network = build()
    optimizer = torch.optim.SGD(network.parameters(), momentum=0.9, nesterov=True)
    predicted = measure_training_memory(
        build, 3, (16, 24, 32), optimizer="sgd", mixed_precision=False
    )
    measured = real_peak(network, torch.randn(2, 3, 16, 24, 32), optimizer)
    assert predicted.total(2) == pytest.approx(measured, rel=0.01)


def test_what_grows_with_the_batch_is_told_from_what_does_not():
    memory = measure_training_memory(u_net, 3, (32, 32), mixed_precision=False)
    weights = sum(x.numel() * 4 for x in u_net().parameters())
    assert 3 * weights <= memory.fixed < 5 * weights


def test_mixed_precision_halves_the_maps_of_convolutions():
    def build():
        return nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(40)))

    def mean(outputs, _target):
        return outputs.mean()

    full, mixed = (
        measure_training_memory(build, 4, (32, 32), mixed_precision=x, loss=mean).per_sample
        for x in (False, True)
    )
    assert mixed == pytest.approx(full / 2, rel=0.1)  # image and target stay as they are


def test_autocast_is_left_as_it_was():
    measure_training_memory(u_net, 3, (32, 32))
    assert not torch.is_autocast_enabled()


@pytest.mark.parametrize(("optimizer", "numbers"), [("adamw", 4), ("sgd", 3)])
def test_a_trained_parameter_takes_its_gradient_and_its_optimisers_state(optimizer, numbers):
    def build():
        return nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1) for _ in range(30)))

    def mean(outputs, _target):
        return outputs.mean()

    weights = sum(x.numel() * 4 for x in build().parameters())
    memory = measure_training_memory(
        build, 64, (4, 4), optimizer=optimizer, mixed_precision=False, loss=mean
    )
    assert memory.total(2) == pytest.approx(numbers * weights, rel=0.1)


def test_a_frozen_parameter_takes_itself_only():
    def build():
        frozen = nn.Conv2d(3, 1000, 31).requires_grad_(False)
        return nn.Sequential(nn.Conv2d(3, 3, 1), Ignored(frozen))

    class Ignored(nn.Module):
        """Holds a module and passes its input on."""

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return x

    size = sum(x.numel() * 4 for x in build().parameters())
    memory = measure_training_memory(build, 3, (8, 8), mixed_precision=False)
    assert memory.total(2) == pytest.approx(size, rel=0.01)


def test_checkpointed_blocks_are_cast_the_second_time_too():
    def build(checkpointing):
        network = PlannedNetwork(3, 2, network="condseg_stage1", checkpointing=checkpointing)
        network.auxiliary_in_training = True
        return network

    plain, again = (
        measure_training_memory(partial(build, x), 3, (128, 128)).per_sample for x in (False, True)
    )
    assert again < plain


def test_context_is_counted_on_cuda_only():
    on_cuda, on_cpu = (
        measure_training_memory(u_net, 3, (16, 16), mixed_precision=x).fixed for x in (True, False)
    )
    assert on_cuda >= CONTEXT_BYTES > on_cpu


def test_the_fullest_moment_depends_on_the_batch():
    memory = TrainingMemory(100, 10, outputs=1, other_moments=(Moment(0, 30),))
    assert [memory.total(batch) for batch in (2, 5, 6)] == [120, 150, 180]
    assert [memory.largest_batch(size) for size in (99, 120, 180)] == [0, 2, 6]


def test_a_network_whose_path_depends_on_values_is_refused():
    class Branching(Squares):
        def forward(self, image):
            return super().forward(image) if image.mean() > 0 else image

    with pytest.raises(UserError, match="cannot be measured"):
        measure_training_memory(Branching, 3, (8, 8))


def test_a_network_whose_constructor_reads_values_is_measured():
    class Reading(Squares):
        def __init__(self):
            super().__init__()
            self.rates = [x.item() for x in torch.linspace(0, 1, 3)]

    assert measure_training_memory(Reading, 3, (8, 8)).per_sample > 0


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(UserError, match="adagrad"):
        measure_training_memory(Squares, 3, (8, 8), optimizer="adagrad")


@pytest.mark.parametrize("name", list_networks())
def test_the_smallest_patch_can_be_measured(name):
    side = get_network_class(name).min_size
    assert measure_training_memory(NETWORKS[name], 3, (side, side)).per_sample > 0
