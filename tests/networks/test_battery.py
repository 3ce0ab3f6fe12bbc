"""What every registered network promises; a new network is tested by being registered."""

from __future__ import annotations

import json

import pytest
import torch

from nnmedseg.errors import SizeError
from nnmedseg.networks import create_network, get_network_class, list_networks

pytestmark = pytest.mark.parametrize("name", list_networks())


def image_for(name, channels=3, batch=2, *, height=1, width=1):
    """A random image, sides in multiples of the smallest size that the network accepts."""
    side = get_network_class(name).min_size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, height * side, width * side, generator=generator)


def finest(output):
    return output[0] if isinstance(output, list) else output


def maps(output):
    return output if isinstance(output, list) else [output]


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 1), (4, 9)])
def test_logits_have_the_classes_and_the_image_size(name, channels, classes):
    image = image_for(name, channels, height=2, width=3)
    output = create_network(name, channels, classes)(image)
    assert {tuple(m.shape) for m in maps(output)} == {(2, classes, *image.shape[2:])}


def test_every_parameter_gets_a_finite_gradient(name):
    network = create_network(name, 3, 2)
    sum(m.square().mean() for m in maps(network(image_for(name)))).backward()
    without = [k for k, p in network.named_parameters() if p.grad is None]
    broken = [k for k, p in network.named_parameters() if k not in without]
    broken = [k for k in broken if not network.get_parameter(k).grad.isfinite().all()]
    assert without == []
    assert broken == []


def test_smallest_size_works_in_evaluation_with_one_image(name):
    network = create_network(name, 3, 2).eval()
    image = image_for(name, batch=1)
    with torch.no_grad():
        assert finest(network(image)).shape == (1, 2, *image.shape[2:])


def test_a_size_that_is_no_multiple_is_refused(name):
    network = create_network(name, 3, 2)
    if network.size_divisor == 1:
        pytest.skip("takes any size")
    image = torch.zeros(2, 3, network.min_size * 2, network.min_size * 2 + 1)
    with pytest.raises(SizeError, match=str(network.size_divisor)):
        network(image)


def test_a_size_below_the_smallest_is_refused(name):
    network = create_network(name, 3, 2)
    side = network.min_size - network.size_divisor
    with pytest.raises(SizeError, match=str(network.min_size)):
        network(torch.zeros(2, 3, side, side))


def test_other_channels_are_refused(name):
    with pytest.raises(SizeError, match="4"):
        create_network(name, 4, 2)(image_for(name, 3))


def test_deep_supervision_can_be_switched_and_keeps_the_finest_logits(name):
    network = create_network(name, 3, 2).eval()
    image = image_for(name)
    with torch.no_grad():
        several = network(image)
        network.deep_supervision = False
        alone = network(image)
    assert isinstance(alone, torch.Tensor)
    torch.testing.assert_close(alone, finest(several), rtol=0, atol=0)


def test_built_without_deep_supervision_it_returns_one_map(name):
    network = create_network(name, 3, 2, deep_supervision=False)
    assert isinstance(network(image_for(name)), torch.Tensor)


def test_channels_last_gives_the_same_logits(name):
    network = create_network(name, 3, 2).eval()
    image = image_for(name, width=2)
    with torch.no_grad():
        expected = finest(network(image))
        network.to(memory_format=torch.channels_last)
        actual = finest(network(image.to(memory_format=torch.channels_last)))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_autocast_trains(name):
    network = create_network(name, 3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(image_for(name))
    sum(m.float().square().mean() for m in maps(output)).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_saved_weights_give_the_same_logits_again(name, tmp_path):
    network = create_network(name, 3, 2).eval()
    image = image_for(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    again = create_network(name, 3, 2).eval()
    again.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(finest(again(image)), finest(network(image)), rtol=0, atol=0)


def test_it_is_built_and_run_on_meta(name):
    with torch.device("meta"):
        network = create_network(name, 3, 2)
    image = image_for(name, width=2)
    output = maps(network(image.to("meta")))
    assert {m.device.type for m in output} == {"meta"}
    assert output[0].shape == (2, 2, *image.shape[2:])
    sum(m.sum() for m in output).backward()


def test_its_options_survive_json_and_build_the_same_network(name):
    network = create_network(name, 3, 2)
    options = json.loads(json.dumps(network.options))
    again = create_network(name, 3, 2, **options)
    shapes = {k: v.shape for k, v in network.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes


def test_its_smallest_size_is_a_multiple_of_the_divisor(name):
    network = get_network_class(name)
    assert network.min_size % network.size_divisor == 0
