"""What every registered network promises; a new network is tested by being registered."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

from nnmedseg.errors import SizeError
from nnmedseg.networks import get_network_class, list_networks

pytestmark = pytest.mark.parametrize("name", list_networks())

FROZEN = dict.fromkeys(("promise_apm", "promise_apm_ips", "promise_ips_gt"), "sam.")
"""Prefix of the parameters that the paper does not train."""


def image_for(name, channels=3, batch=2, *, height=1, width=1):
    """A random image, sides in multiples of the smallest size that the network accepts."""
    side = get_network_class(name).min_size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, height * side, width * side, generator=generator)


def finest(output):
    return output[0] if isinstance(output, list) else output


def maps(output):
    return output if isinstance(output, list) else [output]


def class_logits(network, output):
    outputs = maps(output)
    return outputs[: len(outputs) - len(network.auxiliary_outputs)]


def trained_parameters(network):
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def backward(network, image):
    sum(m.float().square().mean() for m in maps(network(image))).backward()


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 1), (4, 9)])
def test_logits_have_the_classes_and_the_image_size(name, channels, classes, build_small):
    image = image_for(name, channels, height=2, width=3)
    network = build_small(name, channels, classes)
    shapes = {tuple(m.shape) for m in class_logits(network, network(image))}
    assert shapes == {(2, classes, *image.shape[2:])}


def test_auxiliary_outputs_are_one_logit_of_the_image_size(name, build_small):
    network = build_small(name, 3, 2)
    image = image_for(name)
    output = network(image)
    auxiliary = maps(output)[len(class_logits(network, output)) :]
    expected = [(2, 1, *image.shape[2:])] * len(network.auxiliary_outputs)
    assert [tuple(m.shape) for m in auxiliary] == expected


def test_every_trained_parameter_gets_a_finite_gradient(name, build_small):
    network = build_small(name, 3, 2)
    backward(network, image_for(name))
    gradients = {k: p.grad for k, p in trained_parameters(network).items()}
    assert [k for k, gradient in gradients.items() if gradient is None] == []
    assert [k for k, gradient in gradients.items() if not gradient.isfinite().all()] == []


def test_frozen_are_the_parameters_that_the_paper_freezes(name, build_small):
    network = build_small(name, 3, 2)
    frozen = {k for k, p in network.named_parameters() if not p.requires_grad}
    prefix = FROZEN.get(name)
    expected = {k for k, _ in network.named_parameters() if prefix and k.startswith(prefix)}
    assert frozen == expected


def test_smallest_size_works_in_evaluation_with_one_image(name, build_small):
    network = build_small(name, 3, 2).eval()
    image = image_for(name, batch=1)
    with torch.no_grad():
        assert finest(network(image)).shape == (1, 2, *image.shape[2:])


def test_a_size_that_is_no_multiple_is_refused(name, build_small):
    network = build_small(name, 3, 2)
    if network.size_divisor == 1:
        pytest.skip("takes any size")
    image = torch.zeros(2, 3, network.min_size * 2, network.min_size * 2 + 1)
    with pytest.raises(SizeError, match=str(network.size_divisor)):
        network(image)


def test_a_size_below_the_smallest_is_refused(name, build_small):
    network = build_small(name, 3, 2)
    side = network.min_size - network.size_divisor
    with pytest.raises(SizeError, match=str(network.min_size)):
        network(torch.zeros(2, 3, side, side))


def test_other_channels_are_refused(name, build_small):
    network = build_small(name, 4, 2)
    with pytest.raises(SizeError, match="4"):
        network(image_for(name, 3))


def test_deep_supervision_can_be_switched_and_keeps_the_finest_logits(name, build_small):
    network = build_small(name, 3, 2).eval()
    image = image_for(name)
    with torch.no_grad():
        several = network(image)
        network.deep_supervision = False
        alone = network(image)
    assert isinstance(alone, torch.Tensor)
    torch.testing.assert_close(alone, finest(several), rtol=0, atol=0)


def test_built_without_deep_supervision_it_returns_one_map(name, build_small):
    network = build_small(name, 3, 2, deep_supervision=False)
    assert isinstance(network(image_for(name)), torch.Tensor)


def test_channels_last_gives_the_same_logits(name, build_small):
    network = build_small(name, 3, 2).eval()
    image = image_for(name, width=2)
    with torch.no_grad():
        expected = finest(network(image))
        network.to(memory_format=torch.channels_last)
        actual = finest(network(image.to(memory_format=torch.channels_last)))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_autocast_trains(name, build_small):
    network = build_small(name, 3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(image_for(name))
    sum(m.float().square().mean() for m in maps(output)).backward()
    assert all(p.grad.isfinite().all() for p in trained_parameters(network).values())


def test_saved_weights_give_the_same_logits_again(name, tmp_path, build_small):
    network = build_small(name, 3, 2).eval()
    image = image_for(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    again = build_small(name, 3, 2).eval()
    again.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(finest(again(image)), finest(network(image)), rtol=0, atol=0)


def test_it_is_built_and_run_on_meta(name, build_small):
    with torch.device("meta"):
        network = build_small(name, 3, 2)
    image = image_for(name, width=2)
    output = maps(network(image.to("meta")))
    assert {m.device.type for m in output} == {"meta"}
    assert output[0].shape == (2, 2, *image.shape[2:])
    sum(m.sum() for m in output).backward()


def test_its_options_survive_json_and_build_the_same_network(name, build_small):
    network = build_small(name, 3, 2)
    again = type(network)(3, 2, **json.loads(json.dumps(network.options)))
    shapes = {k: v.shape for k, v in network.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes


def test_its_smallest_size_is_a_multiple_of_the_divisor(name):
    network = get_network_class(name)
    assert network.min_size % network.size_divisor == 0


def test_both_modes_take_an_image_of_uneven_sides(name, build_small):
    network = build_small(name, 3, 2)
    image = image_for(name, width=3)
    for training in (True, False):
        assert finest(network.train(training)(image)).shape == (2, 2, *image.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "gradients"])
def test_an_exported_program_gives_the_same_logits(name, gradients, build_small):
    network = build_small(name, 3, 2).eval()
    image = image_for(name, batch=1, width=2)
    with torch.set_grad_enabled(gradients), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (image,)).module()
        torch.testing.assert_close(
            finest(program(image)), finest(network(image)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_it_compiles_into_one_graph_that_trains(name, build_small):
    # Without code generation, which needs a C++ compiler: what can fail in a network is tracing it.
    network = build_small(name, 3, 2).eval()
    image = image_for(name, width=2)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(
        finest(compiled(image)), finest(network(image)), rtol=1e-4, atol=1e-4
    )
    backward(compiled, image)
    assert all(p.grad is not None for p in trained_parameters(network).values())
