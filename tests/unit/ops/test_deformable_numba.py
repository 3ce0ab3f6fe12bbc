"""The deformable convolution as numba's operator: threads, soundness, traced programs."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("numba")

from nnmedseg.networks.layers.deformable import DeformableDepthwiseConv2d
from nnmedseg.ops import _deformable_numba
from nnmedseg.ops._deformable_numba import convolve, convolve_backward
from nnmedseg.ops._deformable_sampling import nine_samplings


def inputs_of(shape, *, layout=torch.contiguous_format, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    batch, channels, *size = shape
    x = torch.randn(*shape, generator=generator).to(memory_format=layout)
    offset = torch.randn(batch, 18, *size, generator=generator).to(memory_format=layout)
    weight = torch.randn(channels, 1, 3, 3, generator=generator)
    return [t.requires_grad_(requires_grad) for t in (x, offset, weight)]


@pytest.fixture
def threads():
    """Sets the number of threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(1, 16, 9, 11), (1, 48, 9, 11), (3, 20, 8, 8), (2, 32, 5, 7)])
def test_the_number_of_threads_changes_nothing(monkeypatch, threads, shape):
    monkeypatch.setattr(_deformable_numba, "SMALLEST_PART", 1)
    inputs = inputs_of(shape, requires_grad=True)
    results = []
    for number in (1, 2, 5):
        threads(number)
        out = convolve(*inputs)
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert torch.equal(got, wanted)


def test_many_pixels_add_up_to_exact_gradients_of_the_filters():
    x, offset, weight = inputs_of((1, 4, 300, 300), requires_grad=True)
    ones = torch.ones_like(x)
    out = convolve(ones, torch.zeros_like(offset), weight)
    (found,) = torch.autograd.grad(out.sum() * 0.1, weight)
    reads = torch.tensor([299.0, 300.0, 299.0])
    expected = (0.1 * reads[:, None] * reads).expand(4, 1, 3, 3)
    torch.testing.assert_close(found, expected, rtol=5e-7, atol=0)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 7), (3, 16, 5, 4), (1, 17, 4, 5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_is_a_sound_operator(shape, layout, requires_grad):
    inputs = inputs_of(shape, layout=layout, requires_grad=requires_grad)
    torch.library.opcheck(convolve, tuple(inputs))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 16, 5, 4), (1, 17, 4, 5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_its_backward_is_a_sound_operator(shape, layout):
    x, offset, weight = inputs_of(shape, layout=layout)
    torch.library.opcheck(convolve_backward, (torch.ones_like(x), x, offset, weight))


def test_another_type_is_refused():
    inputs = [tensor.double() for tensor in inputs_of((1, 3, 4, 5))]
    with pytest.raises(ValueError, match="float64 on cpu, not float32 on a CPU"):
        convolve(*inputs)


def test_offsets_of_a_smaller_map_are_refused():
    x, _, weight = inputs_of((1, 3, 4, 5))
    _, offset, _ = inputs_of((1, 3, 4, 4))
    with pytest.raises(ValueError, match="offset has the shape"):
        convolve(x, offset, weight)
    with pytest.raises(ValueError, match="offset has the shape"):
        convolve_backward(x, x, offset, weight)


def form_in(program):
    """Which form's operators a traced program holds, its regions without autocast included."""
    graphs = [module.graph for module in program.modules() if hasattr(module, "graph")]
    names = " ".join(str(node.target) for graph in graphs for node in graph.nodes)
    return ["deformable_depthwise_numba" in names, "grid_sample" in names]


def test_a_compiled_layer_holds_the_forced_form(monkeypatch):
    layer, found = DeformableDepthwiseConv2d(3), []

    def backend(program, _):
        found.append(form_in(program))
        return program

    x, offset, _ = inputs_of((2, 3, 8, 9))
    for form in ("numba", "sampling"):
        monkeypatch.setenv("NNMEDSEG_DEFORMABLE", form)
        torch.compiler.reset()
        torch.compile(layer, backend=backend, fullgraph=True)(x, offset)
    assert found == [[True, False], [False, True]]


def test_a_compiled_layer_gives_the_same():
    torch.manual_seed(0)
    layer = DeformableDepthwiseConv2d(3)
    x, offset, _ = inputs_of((2, 3, 8, 9), requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    given = (x, offset, layer.weight)
    expected, actual = layer(x, offset), compiled(x, offset)
    torch.testing.assert_close(actual, expected)
    for got, wanted in zip(
        torch.autograd.grad(actual.square().sum(), given),
        torch.autograd.grad(expected.square().sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_an_exported_layer_holds_the_samplings():
    layer = DeformableDepthwiseConv2d(3)
    x, offset, _ = inputs_of((2, 3, 8, 9))
    program = torch.export.export(layer, (x, offset))
    assert form_in(program.graph_module) == [False, True]
    torch.testing.assert_close(program.module()(x, offset), nine_samplings(x, offset, layer.weight))
