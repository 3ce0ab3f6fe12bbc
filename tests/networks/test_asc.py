"""ASC-Seg's own properties."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnmedseg.errors import UserError, WeightsError
from nnmedseg.networks import create_network
from nnmedseg.networks.asc import CAB, MSFA, PMB
from nnmedseg.weights import PROFILER_COUNTERS, from_reference, import_reference
from nnmedseg.weights.asc import IMPORTER

NARROW = {"widths": (4, 8, 12, 16)}


@pytest.fixture(scope="module")
def state(load_golden):
    return load_golden("asc")[1]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def same_state(network, other):
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in network.state_dict().items())


def test_parameters_of_each_stage_are_the_published_ones():
    network = create_network("asc", 3, 1)
    assert count(network) == 222_408
    assert [count(stage) for stage in network.encoder] == [4_370, 14_574, 34_194, 62_054]
    assert [count(stage) for stage in network.decoder] == [4_619, 15_147, 31_691, 54_251]
    assert [count(stage) for stage in network.connect] == [152, 432, 840]
    assert count(network.heads) == 84


def test_parameters_of_each_mamba_block():
    network = create_network("asc", 3, 1)
    assert [count(stage.pmb.mamba) for stage in network.encoder] == [252, 552, 900, 1_296]


def test_parameters_at_the_widths_of_the_figure():
    assert count(create_network("asc", 3, 1, widths=(16, 32, 48, 64))) == 811_688


def test_image_channels_change_the_first_convolution_only():
    three, five = create_network("asc", 3, 1), create_network("asc", 5, 1)
    assert changed_entries(three, five) == ["encoder.0.ipcb.0.weight"]


def test_classes_change_the_heads_only():
    one, four = create_network("asc", 3, 1), create_network("asc", 3, 4)
    assert all(name.startswith("heads.") for name in changed_entries(one, four))


def changed_entries(network, other):
    shapes = {name: entry.shape for name, entry in other.state_dict().items()}
    return [n for n, entry in network.state_dict().items() if entry.shape != shapes[n]]


@pytest.mark.parametrize("widths", [(8, 16, 24), (8, 16, 24, 30), (0, 8, 8, 8)])
def test_widths_that_cannot_be_are_refused(widths):
    with pytest.raises(UserError, match="multiples of 4"):
        create_network("asc", 3, 1, widths=widths)


def test_a_fifth_width_is_ignored_as_in_the_authors_code():
    network = create_network("asc", 3, 1, widths=(4, 8, 12, 16, 20))
    assert network.options["widths"] == [4, 8, 12, 16]


def test_one_norm_serves_at_three_places_of_a_pmb():
    module = PMB(8, d_state=4, d_conv=4, expand=2)
    calls = []
    module.norm.register_forward_hook(lambda *_: calls.append(1))
    module(torch.randn(1, 8, 4, 4))
    assert len(calls) == 3


def test_a_pmb_reads_row_by_row():
    """Only the pixels from a changed one on, in this order, can see it."""
    torch.manual_seed(0)
    module = PMB(8, d_state=4, d_conv=4, expand=2).eval()
    module.feed_forward = nn.Identity()
    x = torch.randn(1, 8, 3, 5)
    changed = x.clone()
    changed[:, :, 1, 2] += torch.randn(8)
    with torch.no_grad():
        seen = (module(changed) - module(x)).abs().amax(dim=(0, 1)) > 0
    assert seen.flatten().nonzero().min() == 1 * 5 + 2


def test_an_output_channel_of_msfas_grouped_convolution_sees_four_neighbours():
    convolution = MSFA(8).fuse[0]
    maps = torch.zeros(1, 32, 4, 4)
    maps[:, 4:8] = 1
    with torch.no_grad():
        difference = convolution(maps) - convolution(torch.zeros_like(maps))
    assert difference.abs().amax(dim=(0, 2, 3)).nonzero().flatten().tolist() == [1]


def test_attention_keeps_its_input():
    module = CAB(4).eval()
    nn.init.constant_(module.gate[-1].bias, -100)  # a gate of zero
    x = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(module(x), x)


def test_training_with_one_image_is_refused_by_batch_norm():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        create_network("asc", 3, 2, **NARROW)(torch.zeros(1, 3, 16, 16))


def test_bfloat16_autocast_stays_near_float32():
    torch.manual_seed(0)
    network = create_network("asc", 3, 1, **NARROW).eval()
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected = network(image)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual = network(image)[0]
    torch.testing.assert_close(actual.float(), expected, rtol=0, atol=0.05)


@pytest.mark.slow
def test_export_gives_the_same_logits():
    torch.manual_seed(0)
    network = create_network("asc", 3, 2, deep_supervision=False, **NARROW).eval()
    image = torch.randn(1, 3, 16, 32)
    with torch.no_grad():
        exported = torch.export.export(network, (image,)).module()
        torch.testing.assert_close(exported(image), network(image))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "min_loss": 0.8, "model_state_dict": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {name: torch.from_numpy(value) for name, value in state.items()},
        lambda state: {**state, "total_ops": torch.zeros(1), "final.total_params": torch.ones(1)},
    ],
    ids=["checkpoint", "module", "tensors", "thop"],
)
def test_variants_of_a_checkpoint_load_the_same(state, wrap):
    assert same_state(from_reference("asc", wrap(state)), from_reference("asc", state))


def test_counters_of_the_profiler_are_reported(state):
    counters = {"total_ops": torch.zeros(1), "encoder.eb1.pm.mamba.total_params": torch.ones(1)}
    assert import_reference("asc", {**state, **counters}).ignored == {
        PROFILER_COUNTERS[1]: list(counters)
    }


def test_sizes_are_read_from_shapes(state):
    options = {"widths": [4, 12, 16, 20], "d_state": 6, "d_conv": 3, "expand": 1}
    ours = create_network("asc", 5, 3, **options).state_dict()
    network = from_reference("asc", {name: ours[IMPORTER.our_name(name)] for name in state})
    assert (network.input_channels, network.num_classes) == (5, 3)
    assert network.options == options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("decoder.fac.1.pro.1.bias"), r"1 missing: connect\.1\.project"),
        (lambda state: state.update({"encoder.eb5": torch.zeros(1)}), "1 left over: encoder.eb5"),
        (
            lambda state: state.update({"final.ph2.pro.0.bias": torch.zeros(5)}),
            r"final\.ph2\.pro\.0\.bias \(5,\) instead of \(1,\)",
        ),
        (lambda state: state.pop("encoder.eb1.ipc.0.weight"), r"encoder\.eb1\.ipc\.0\.weight"),
    ],
    ids=["missing", "left over", "wrong shape", "first"],
)
def test_entries_that_do_not_fit_are_named(state, change, message):
    changed = dict(state)
    change(changed)
    with pytest.raises(WeightsError, match=message):
        from_reference("asc", changed)
