"""Every form of the deformable convolution against its definition, and against torchvision's."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.ops import deformable_depthwise_conv
from nnmedseg.ops.deformable import _forms

FORMS = ("sampling", "numba", "torchvision")
SHAPES = ((1, 1, 1, 1), (3, 3, 1, 7), (1, 16, 5, 1), (2, 17, 2, 2), (3, 5, 13, 17), (1, 48, 6, 20))
TOLERANCE = 5e-6


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    """Forces a form; fails if it was given up."""
    if request.param in {"numba", "torchvision"}:
        pytest.importorskip(request.param)
    monkeypatch.setenv("NNMEDSEG_DEFORMABLE", request.param)
    yield request.param
    assert _forms.choose("cpu") == request.param


def random_inputs(shape, dtype=torch.float32, spread=3.0):
    """Map, offsets and filters; no offset is near a whole number, where its gradient jumps."""
    generator = torch.Generator().manual_seed(0)
    batch, channels, height, width = shape
    x = torch.randn(*shape, generator=generator)
    offset = spread * torch.randn(batch, 18, height, width, generator=generator)
    offset = offset.floor() + 0.05 + 0.9 * torch.rand(offset.shape, generator=generator)
    weight = torch.randn(channels, 1, 3, 3, generator=generator)
    return [t.to(dtype).requires_grad_() for t in (x, offset, weight)]


def definition(x, offset, weight):
    """Pixel by pixel around each position, those outside the map left out; in float64."""
    x, offset, weight = x.double(), offset.double(), weight.double()
    batch, channels, height, width = x.shape
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    out = torch.zeros_like(x)
    for tap in range(9):
        row = rows[:, None] - 1 + tap // 3 + offset[:, 2 * tap]
        column = columns - 1 + tap % 3 + offset[:, 2 * tap + 1]
        inside = (row > -1) & (row < height) & (column > -1) & (column < width)
        for below, beside in ((0, 0), (0, 1), (1, 0), (1, 1)):
            at = [p.detach().floor() + step for p, step in ((row, below), (column, beside))]
            valid = inside & (at[0] >= 0) & (at[0] < height) & (at[1] >= 0) & (at[1] < width)
            share = (1 - (row - at[0]).abs()) * (1 - (column - at[1]).abs())
            place = torch.where(valid, at[0] * width + at[1], 0).long().view(batch, 1, -1)
            read = x.flatten(2).gather(2, place.expand(-1, channels, -1)).view_as(x)
            read = torch.where(valid[:, None], share[:, None], 0) * read
            out = out + weight[:, 0, tap // 3, tap % 3, None, None] * read
    return out


def torchvisions(x, offset, weight):
    return pytest.importorskip("torchvision").ops.deform_conv2d(x, offset, weight, padding=1)


def with_gradients(operation, inputs):
    """The output and the gradients of a weighted sum of it."""
    out = operation(*inputs)
    incoming = torch.arange(out.numel(), dtype=torch.float64).cos().view(out.shape)
    return [out.detach(), *torch.autograd.grad(out, inputs, incoming.to(out.dtype))]


def assert_near(found, expected, tolerance=TOLERANCE):
    """Each tensor within the tolerance, relative to its largest entry."""
    for got, wanted in zip(found, expected, strict=True):
        limit = tolerance * max(wanted.abs().max().item(), 1e-3)
        torch.testing.assert_close(got.double(), wanted.double(), rtol=0, atol=limit)


@pytest.mark.parametrize("spread", [0.5, 3.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_definition(form, shape, spread):
    inputs = random_inputs(shape, spread=spread)
    expected = with_gradients(definition, inputs)
    assert_near(with_gradients(deformable_depthwise_conv, inputs), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_torchvision(form, shape):
    inputs = random_inputs(shape)
    found = with_gradients(deformable_depthwise_conv, inputs)
    assert_near(found, with_gradients(torchvisions, inputs))


@pytest.mark.parametrize("shape", SHAPES)
def test_float64_is_exact(form, shape):
    inputs = random_inputs(shape, torch.float64)
    found = with_gradients(deformable_depthwise_conv, inputs)
    assert found[0].dtype == torch.float64
    assert_near(found, with_gradients(definition, inputs), tolerance=1e-12)


def at_borders():
    """Rows and columns at and beside the borders of a map of 4 by 5 pixels, for each tap."""
    x, offset, weight = random_inputs((1, 18, 4, 5))
    beside = torch.tensor([-1.25, -1.0, -0.75, 0.0, 3.0, 3.25, 4.0, 4.25, 5.0, 5.25])
    position = beside[torch.arange(18 * 20).mul(7) % len(beside)].view(1, 9, 2, 4, 5)
    taps = torch.stack(torch.meshgrid(*2 * [torch.arange(3.0) - 1], indexing="ij"))
    pixels = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij"))
    offset = position - taps.view(2, 9).t()[None, :, :, None, None] - pixels[None, None]
    return x, offset.view(1, 18, 4, 5).requires_grad_(), weight


def test_reads_in_part_at_the_borders(form):
    inputs = at_borders()
    found = with_gradients(deformable_depthwise_conv, inputs)
    expected = with_gradients(definition, inputs)
    assert_near(found[:2] + found[3:], expected[:2] + expected[3:])


def test_numba_takes_torchvisions_side_where_the_gradient_of_an_offset_jumps(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("NNMEDSEG_DEFORMABLE", "numba")
    inputs = at_borders()
    found = with_gradients(deformable_depthwise_conv, inputs)
    assert_near(found, with_gradients(torchvisions, inputs))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
@pytest.mark.parametrize("axis", [0, 1])
def test_an_offset_that_leads_nowhere_reads_zero(form, value, axis):
    x, offset, weight = random_inputs((2, 17, 5, 6))
    lost = torch.zeros_like(offset, dtype=torch.bool)
    lost[:, axis::4, ::2, ::2] = True
    found = with_gradients(deformable_depthwise_conv, (x, offset.masked_fill(lost, value), weight))
    expected = with_gradients(definition, (x, offset.masked_fill(lost, 1000.0), weight))
    assert_near(found, expected)


def test_zero_offsets_are_an_ordinary_convolution(form):
    x, offset, weight = random_inputs((2, 5, 7, 9))
    out = deformable_depthwise_conv(x, torch.zeros_like(offset), weight)
    expected = torch.nn.functional.conv2d(x, weight, padding=1, groups=5)
    assert_near([out], [expected])


@pytest.mark.parametrize("channels", [1, 5, 16])
def test_channels_last_stays_channels_last(form, channels):
    x, offset, weight = random_inputs((2, channels, 7, 9))
    out = deformable_depthwise_conv(x.to(memory_format=torch.channels_last), offset, weight)
    assert out.is_contiguous(memory_format=torch.channels_last) or form == "torchvision"
    assert_near([out], [deformable_depthwise_conv(x, offset, weight)])


@pytest.mark.parametrize("channels", [5, 32])
def test_inputs_may_lie_in_any_way(form, channels):
    inputs = random_inputs((2, channels, 7, 9))
    expected = with_gradients(deformable_depthwise_conv, inputs)
    x, offset, weight = inputs
    wide = torch.cat([offset.detach()] * 2, dim=1)
    scattered = (
        x.detach().permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0).requires_grad_(),
        wide[:, :18].transpose(2, 3).contiguous().transpose(2, 3)[:, :18].requires_grad_(),
        torch.stack([weight.detach()] * 2, dim=-1)[..., 0].requires_grad_(),
    )
    assert not any(tensor.is_contiguous() for tensor in scattered)
    assert_near(with_gradients(deformable_depthwise_conv, scattered), expected, 1e-6)
    part = wide[:, :18].requires_grad_()  # with a gap between the samples
    assert_near(with_gradients(deformable_depthwise_conv, (x, part, weight)), expected, 1e-6)


def test_autocast_samples_in_float32(form):
    inputs = [t.detach() for t in random_inputs((1, 4, 8, 8))]
    expected = deformable_depthwise_conv(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(deformable_depthwise_conv(*inputs), expected)


def test_an_empty_batch_gives_an_empty_result(form):
    inputs = random_inputs((0, 3, 4, 5))
    found = with_gradients(deformable_depthwise_conv, inputs)
    assert [tuple(t.shape) for t in found] == [(0, 3, 4, 5), *(tuple(t.shape) for t in inputs)]
    assert not found[3].any()


@pytest.mark.parametrize(
    ("which", "shape"),
    [("offset", (1, 9, 4, 5)), ("offset", (1, 18, 4, 4)), ("weight", (2, 1, 3, 3))],
)
def test_tensors_that_do_not_belong_together_are_refused(form, which, shape):
    given = dict(zip(("x", "offset", "weight"), random_inputs((1, 3, 4, 5)), strict=True))
    with pytest.raises(ValueError, match=f"{which} has the shape"):
        deformable_depthwise_conv(**{**given, which: torch.zeros(shape)})
