"""The sliding window computes what nnU-Net's computes, row by row."""

from types import SimpleNamespace

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnmedseg.inference.sliding_window import SlidingWindow, window_bytes
from nnmedseg.inference.tile_batches import TileBatches

HEADS = 3
CPU = torch.device("cpu")
SHAPES = {
    "a photograph": ((8, 10), (1, 21, 33)),
    "a photograph smaller than the patch": ((8, 10), (1, 5, 33)),
    "slices": ((8, 10), (4, 9, 17)),
    "a volume": ((4, 6, 8), (11, 13, 17)),
    "a volume smaller than the patch": ((4, 6, 8), (3, 13, 5)),
    "a volume of one slice": ((4, 6, 8), (1, 13, 17)),
}


def network_for(patch, seed=0):
    """Return a network that looks at its surroundings and at no symmetry."""
    torch.manual_seed(seed)
    convolution = nn.Conv2d if len(patch) == 2 else nn.Conv3d
    return nn.Sequential(convolution(2, 5, 3, padding=1), nn.Tanh(), convolution(5, HEADS, 1))


def window_for(patch, networks, mirror_axes=None, batches=None, **options):
    return SlidingWindow(
        networks,
        patch,
        heads=HEADS,
        batches=batches or TileBatches(CPU),
        mirror_axes=mirror_axes,
        **options,
    )


def joined(slabs, shape):
    return torch.cat([slab.logits for slab in slabs], dim=2 if shape[0] == 1 else 1)


def nnunets(patch, network, image, mirror_axes):
    predictor = nnUNetPredictor(use_mirroring=mirror_axes is not None, device=CPU, allow_tqdm=False)
    predictor.network = network
    predictor.configuration_manager = ConfigurationManager(
        {"patch_size": list(patch), "architecture": {}}
    )
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=HEADS)
    predictor.allowed_mirroring_axes = mirror_axes
    return predictor.predict_sliding_window_return_logits(image)


@pytest.mark.parametrize("mirrored", [False, True], ids=["once", "mirrored"])
@pytest.mark.parametrize(("patch", "shape"), SHAPES.values(), ids=SHAPES)
def test_logits_are_nnunets_to_the_last_bit(patch, shape, mirrored):
    image = torch.randn(2, *shape)
    network = network_for(patch)
    axes = tuple(range(len(patch))) if mirrored else None
    slabs = list(window_for(patch, [network], axes).slabs(image))
    assert torch.equal(joined(slabs, shape), nnunets(patch, network, image, axes))


def test_folds_are_averaged_as_nnunet_does():
    patch, shape = SHAPES["a photograph"]
    image = torch.randn(2, *shape)
    networks = [network_for(patch, seed) for seed in range(3)]
    expected = sum(nnunets(patch, network, image, None) for network in networks) / 3
    assert torch.equal(joined(window_for(patch, networks).slabs(image), shape), expected)


def test_folds_of_a_volume_share_their_memory_and_are_averaged_up_to_rounding():
    patch, shape = SHAPES["a volume"]
    image = torch.randn(2, *shape)
    networks = [network_for(patch, seed) for seed in range(3)]
    expected = sum(nnunets(patch, network, image, None) for network in networks) / 3
    logits = joined(window_for(patch, networks).slabs(image), shape)
    assert torch.allclose(logits, expected, atol=4e-3)
    settings = {"heads": HEADS, "uncertainty": False}
    assert window_bytes(shape, patch, folds=3, **settings) == window_bytes(
        shape, patch, folds=1, **settings
    )


@pytest.mark.parametrize(("patch", "shape"), SHAPES.values(), ids=SHAPES)
def test_slabs_come_before_the_image_is_done(patch, shape):
    slabs = list(window_for(patch, [network_for(patch)]).slabs(torch.randn(2, *shape)))
    axis = 2 if shape[0] == 1 else 1
    longest = patch[axis - 3 + (len(patch) == 2)] if len(patch) == 3 or shape[0] == 1 else 1
    assert max(slab.logits.shape[axis] for slab in slabs) <= longest
    assert sum(slab.logits.shape[axis] for slab in slabs) == shape[axis - 1]


def test_probabilities_are_the_mean_over_folds_and_mirrored_copies():
    patch, image = (8, 10), torch.randn(2, 1, 8, 10)
    networks = [network_for(patch, seed) for seed in range(2)]
    window = window_for(patch, networks, (0, 1), activation=lambda x: x.float().softmax(0))
    (slab,) = window.slabs(image)
    with torch.inference_mode():
        said = [
            network(image[:, 0][None].flip(axes)).softmax(1).flip(axes)[0]
            for network in networks
            for axes in ((), (2,), (3,), (2, 3))
        ]
    assert slab.probabilities is not None
    assert torch.allclose(slab.probabilities[:, 0], sum(said) / len(said), atol=1e-6)


def test_logits_that_are_no_numbers_are_an_error():
    patch, shape = SHAPES["a photograph"]
    network = network_for(patch)
    nn.init.constant_(network[2].bias, float("nan"))
    with pytest.raises(RuntimeError, match="infinite or not a number"):
        list(window_for(patch, [network]).slabs(torch.randn(2, *shape)))


def test_a_long_volume_takes_no_more_memory_than_one_of_a_patch():
    settings = {"heads": 100, "folds": 1, "uncertainty": False}
    whole = window_bytes((200, 64, 64), (16, 64, 64), **settings)
    assert whole == window_bytes((16, 64, 64), (16, 64, 64), **settings)


class Limited(nn.Module):
    """A network for which there is memory for a few tiles only, and on some device for none."""

    def __init__(self, network, most):
        super().__init__()
        self.network = network
        self.most = most
        self.batches = []

    def to(self, device):
        return self

    def forward(self, batch):
        if batch.is_meta or len(batch) > self.most:
            raise torch.OutOfMemoryError
        self.batches.append(len(batch))
        return self.network(batch)


@pytest.mark.parametrize("size", [1, 3, 4, 64])
def test_batches_of_tiles_and_copies_change_nothing(size):
    patch, shape = SHAPES["a photograph"]
    image = torch.randn(2, *shape)
    network = Limited(network_for(patch), size)
    batches = TileBatches(CPU)
    batches.size = size
    logits = joined(window_for(patch, [network], (0, 1), batches).slabs(image), shape)
    assert max(network.batches) == min(size, 4 * 6)
    assert torch.allclose(logits, nnunets(patch, network.network, image, (0, 1)), atol=2e-3)


def test_batches_that_do_not_fit_are_halved_and_it_is_said(caplog):
    patch, shape = SHAPES["a photograph"]
    image = torch.randn(2, *shape)
    network = Limited(network_for(patch), 3)
    batches = TileBatches(CPU)
    batches.size = 8
    logits = joined(window_for(patch, [network], (0, 1), batches).slabs(image), shape)
    assert torch.allclose(logits, nnunets(patch, network.network, image, (0, 1)), atol=2e-3)
    assert batches.size == 2
    assert "going on with 2 tile(s) at once" in caplog.text


def test_the_cpu_takes_over_from_a_device_without_memory(caplog):
    patch, shape = SHAPES["a photograph"]
    image = torch.randn(2, *shape)
    network = Limited(network_for(patch), 1)
    batches = TileBatches(torch.device("meta"))
    logits = joined(window_for(patch, [network], None, batches).slabs(image), shape)
    assert torch.equal(logits, nnunets(patch, network.network, image, None))
    assert "going on on the CPU" in caplog.text


def test_what_does_not_fit_on_the_cpu_is_an_error():
    patch, shape = SHAPES["a photograph"]
    with pytest.raises(torch.OutOfMemoryError):
        list(window_for(patch, [Limited(network_for(patch), 0)]).slabs(torch.randn(2, *shape)))


@pytest.mark.parametrize("size", [1, 64])
def test_images_that_share_batches_get_the_logits_that_each_gets_alone(size):
    patch, shapes = (8, 10), [(1, 21, 33), (1, 5, 33), (1, 8, 10)]
    images = [torch.randn(2, *shape) for shape in shapes]
    networks = [network_for(patch, seed) for seed in range(2)]
    batches = TileBatches(CPU)
    batches.size = size
    window = window_for(patch, networks, (0, 1), batches)
    found = {number: [] for number in range(len(images))}
    for number, slab in window.slabs_together(images):
        found[number].append(slab)
    for number, image in enumerate(images):
        alone = joined(window_for(patch, networks, (0, 1)).slabs(image), shapes[number])
        assert torch.allclose(joined(found[number], shapes[number]), alone, atol=2e-3 * (size > 1))


def test_tiles_of_several_images_fill_one_batch():
    patch = (8, 10)
    network = Limited(network_for(patch), 64)
    batches = TileBatches(CPU)
    batches.size = 64
    list(window_for(patch, [network], None, batches).slabs_together([torch.randn(2, 1, 8, 10)] * 5))
    assert network.batches == [5]


@pytest.mark.parametrize(("patch", "shape"), SHAPES.values(), ids=SHAPES)
def test_how_many_copies_an_image_asks_for_at_once_is_told_before(patch, shape):
    network = Limited(network_for(patch), 1000)
    batches = TileBatches(CPU)
    batches.size = 1000
    window = window_for(patch, [network], (0, 1), batches)
    list(window.slabs(torch.randn(2, *shape)))
    assert window.copies_at_once(shape) == max(network.batches)
