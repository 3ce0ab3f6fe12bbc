"""Each of our operators is one operator to PyTorch's compiler, exporter and autograd."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.networks import create_network
from nnmedseg.networks.layers.mamba import MambaBlock
from nnmedseg.ops import selective_scan
from nnmedseg.ops._scan_chunked import selective_scan_chunked, selective_scan_chunked_backward


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


def test_a_second_derivative_of_the_scan_is_refused():
    inputs = scan_inputs(20, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        selective_scan(*inputs).square().sum(), inputs[:1], create_graph=True
    )
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(gradient.sum(), inputs)


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
