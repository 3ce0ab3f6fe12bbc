"""Each of our operators is one operator to PyTorch's compiler, exporter and autograd."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch.nn import functional

from nnmedseg.networks import create_network
from nnmedseg.networks.layers.mamba import MambaBlock
from nnmedseg.ops import depthwise_conv, selective_scan
from nnmedseg.ops._scan_chunked import selective_scan_chunked, selective_scan_chunked_backward
from nnmedseg.ops.depthwise import wide_depthwise_conv, wide_depthwise_conv_weight_gradient
from nnmedseg.ops.window_mix import mix_windows, window_mix, window_mix_backward


def scan_inputs(length, *, channels=4, states=3, requires_grad=False):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = (
        normal(2, length, channels),
        normal(2, length, channels).abs(),
        -normal(channels, states).abs() - 0.1,
        normal(2, length, states),
        normal(2, length, states),
    )
    return tuple(x.requires_grad_(requires_grad) for x in inputs)


@pytest.mark.parametrize("length", [1, 77, 300])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_scan_is_a_sound_operator(length, requires_grad):
    torch.library.opcheck(selective_scan_chunked, scan_inputs(length, requires_grad=requires_grad))


@pytest.mark.parametrize("length", [1, 77, 300])
def test_the_scans_backward_is_a_sound_operator(length):
    inputs = scan_inputs(length)
    y, last_state, kept = selective_scan_chunked(*inputs)
    torch.library.opcheck(selective_scan_chunked_backward, (y, last_state, kept, *inputs))


def fused_scan_inputs(length, *, optional, requires_grad=False):
    u, dt, A, B, C = (x.detach().float() for x in scan_inputs(length))  # noqa: N806
    given = [u, dt, A, B, C, *([A[:, 0], u.cos(), A[:, 0]] if optional else [None] * 3)]
    return *(None if x is None else x.clone().requires_grad_(requires_grad) for x in given), True


@pytest.mark.parametrize("length", [1, 77])
@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_numbas_scan_is_a_sound_operator(length, optional, requires_grad):
    pytest.importorskip("numba")
    importlib.import_module("nnmedseg.ops._scan_numba")  # defines it
    inputs = fused_scan_inputs(length, optional=optional, requires_grad=requires_grad)
    torch.library.opcheck(torch.ops.nnmedseg.selective_scan_numba.default, inputs)


@pytest.mark.parametrize("optional", [False, True])
def test_its_backward_is_a_sound_operator(optional):
    pytest.importorskip("numba")
    importlib.import_module("nnmedseg.ops._scan_numba")  # defines it
    inputs = fused_scan_inputs(77, optional=optional)
    out, last_state, kept = torch.ops.nnmedseg.selective_scan_numba(*inputs)
    given = (out, last_state, kept, *inputs)
    torch.library.opcheck(torch.ops.nnmedseg.selective_scan_numba_backward.default, given)


def convolution_inputs(*, layout=torch.contiguous_format, requires_grad=False):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 9).to(memory_format=layout)
    return tuple(t.requires_grad_(requires_grad) for t in (x, torch.randn(4, 1, 3, 7)))


@pytest.mark.parametrize("bias", [None, torch.ones(4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_wide_depthwise_convolution_is_a_sound_operator(layout, bias, requires_grad):
    given = convolution_inputs(layout=layout, requires_grad=requires_grad)
    torch.library.opcheck(wide_depthwise_conv, (*given, bias))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_its_weights_gradient_is_a_sound_operator(layout):
    x, weight = convolution_inputs(layout=layout)
    torch.library.opcheck(wide_depthwise_conv_weight_gradient, (torch.randn_like(x), x, weight))


def window_inputs(size=(4, 5), *, layout=torch.contiguous_format, requires_grad=False):
    torch.manual_seed(0)
    values = torch.randn(2, 6, *size).to(memory_format=layout)
    return tuple(t.requires_grad_(requires_grad) for t in (torch.randn(2, 3, 9, 9, *size), values))


@pytest.mark.parametrize("size", [(4, 5), (1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_mixing_in_windows_is_a_sound_operator(size, layout, requires_grad):
    torch.library.opcheck(
        window_mix, window_inputs(size, layout=layout, requires_grad=requires_grad)
    )


def test_the_backward_of_mixing_in_windows_is_a_sound_operator():
    torch.library.opcheck(window_mix_backward, window_mix(*window_inputs()))


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [
        (selective_scan, scan_inputs(20, requires_grad=True)),
        (mix_windows, window_inputs(requires_grad=True)),
    ],
)
def test_a_second_derivative_is_refused(operation, inputs):
    (gradient,) = torch.autograd.grad(
        operation(*inputs).square().sum(), inputs[:1], create_graph=True
    )
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(gradient.sum(), inputs)


def test_a_second_derivative_of_the_convolution_is_right_or_refused():
    inputs = [x.double().detach().requires_grad_() for x in convolution_inputs()]
    loss = depthwise_conv(*inputs).square().sum()
    of_map, of_filters = torch.autograd.grad(loss, inputs, create_graph=True)
    native = functional.conv2d(*inputs, padding=(1, 3), groups=4).square().sum()
    (expected,) = torch.autograd.grad(native, inputs[:1], create_graph=True)
    for got, wanted in zip(
        torch.autograd.grad(of_map.square().sum(), inputs, retain_graph=True),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(of_filters.sum(), inputs)


@pytest.mark.parametrize("outputs", [(0,), (1,), (0, 1)])
def test_an_unused_result_of_the_scan_has_gradient_zero(outputs):
    inputs = scan_inputs(77, requires_grad=True)
    results = selective_scan(*inputs, return_last_state=True)
    unused = sum(0 * results[i].sum() for i in (0, 1) if i not in outputs)
    used = sum(results[i].square().sum() for i in outputs)
    expected = torch.autograd.grad(used + unused, inputs, retain_graph=True)
    actual = torch.autograd.grad(used, inputs, allow_unused=True)
    for got, wanted in zip(actual, expected, strict=True):
        assert torch.equal(got, wanted)


def operators(program):
    """The names of the operators of an exported program, its regions without autocast included."""
    graphs = [m.graph for m in program.graph_module.modules() if hasattr(m, "graph")]
    return {str(node.target) for graph in graphs for node in graph.nodes}


def test_a_mamba_block_is_traced_without_a_break():
    torch.manual_seed(0)
    block, tokens = MambaBlock(8), torch.randn(2, 30, 8)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    expected, actual = block(tokens), compiled(tokens)
    torch.testing.assert_close(actual, expected)
    given = tuple(block.parameters())
    for got, wanted in zip(
        torch.autograd.grad(actual.square().sum(), given),
        torch.autograd.grad(expected.square().sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_rosper_exported_with_gradients_gives_the_same_logits():
    torch.manual_seed(0)
    network = create_network("rosper", 3, 2, widths=[8, 8, 8, 8]).eval()
    image = torch.randn(1, 3, 64, 64)
    exported = torch.export.export(network, (image,))
    names = operators(exported)
    assert "nnmedseg.selective_scan_chunked.default" in names
    assert not any("addcmul_" in name for name in names)
    expected, actual = network(image), exported.module()(image)
    for got, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, wanted)
