"""Training memory measured without computing."""

import pytest
import torch
from torch import nn

from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.planners.memory import BUILT_FOR_CUDA, measure_training_memory, parameter_bytes


class Squares(nn.Module):
    """Keeps its input and one intermediate result for the backward pass."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image):
        return (image * self.scale).square()


def bytes_saved_by_a_real_run(network, image):
    """Count on the CPU what autograd keeps, by address instead of by storage object."""
    own = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    assert outputs is not None
    return sum(kept.values())


def test_each_storage_is_counted_once():
    # the image (for the gradient of the scale) and the product (for that of the square)
    memory = measure_training_memory(Squares, 3, (10, 20), mixed_precision=False)
    assert memory.per_sample == 2 * 3 * 10 * 20 * 4


def test_memory_grows_linearly_with_the_pixels():
    def build():
        return PlannedNetwork(3, 2, network="rosper", widths=[8, 8, 8, 8])

    small = measure_training_memory(build, 3, (64, 64)).per_sample
    large = measure_training_memory(build, 3, (128, 128)).per_sample
    assert large / small == pytest.approx(4, rel=0.02)


def test_rosper_is_predicted_to_keep_what_a_real_run_keeps():
    network = PlannedNetwork(3, 2, network="rosper").train()
    network.auxiliary_in_training = True

    def build():
        built = PlannedNetwork(3, 2, network="rosper")
        built.auxiliary_in_training = True
        return built

    predicted = measure_training_memory(build, 3, (64, 96), mixed_precision=False).per_sample
    two = bytes_saved_by_a_real_run(network, torch.randn(2, 3, 64, 96))
    four = bytes_saved_by_a_real_run(network, torch.randn(4, 3, 64, 96))
    assert predicted == pytest.approx((four - two) / 2, rel=0.1)  # deformable convolution differs


@pytest.mark.skipif(not BUILT_FOR_CUDA, reason="this PyTorch is built without CUDA's autocast")
def test_mixed_precision_halves_the_results_of_convolutions():
    def build():
        return nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.ReLU())

    full = measure_training_memory(build, 4, (32, 32), mixed_precision=False).per_sample
    mixed = measure_training_memory(build, 4, (32, 32)).per_sample
    # the image and the rectified result are kept in float16, and so is a copy of the weight
    assert mixed == pytest.approx(full / 2, rel=0.01)


def test_autocast_is_left_as_it_was():
    measure_training_memory(Squares, 3, (10, 20))
    assert not torch.is_autocast_enabled()


def test_frozen_parameters_need_no_optimiser_state():
    layer = nn.Linear(10, 10, bias=False)
    trained = parameter_bytes(layer, "adamw")
    layer.requires_grad_(False)
    assert trained == 4 * parameter_bytes(layer, "adamw") == 1600
