"""Mixing inside windows is unfold, a product and fold."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nnmedseg.ops.window_mix import mix_windows

HEADS = 2
SIZES = pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 4), (2, 3)])


def inputs(size, dtype=torch.float64):
    torch.manual_seed(0)
    attention = torch.randn(2, HEADS, 9, 9, *size, dtype=dtype).softmax(3)
    values = torch.randn(2, 6, *size, dtype=dtype)
    return attention.requires_grad_(), values.requires_grad_()


def by_windows(attention, values):
    batch, channels, height, width = values.shape
    windows = functional.unfold(values, 3, padding=1).view(batch, HEADS, -1, 9, height * width)
    mixed = torch.einsum("bhmnp,bhcnp->bhcmp", attention.flatten(4), windows)
    return functional.fold(mixed.reshape(batch, channels * 9, -1), (height, width), 3, padding=1)


@SIZES
def test_it_is_the_sum_of_the_windows(size):
    given = inputs(size)
    torch.testing.assert_close(mix_windows(*given), by_windows(*given))


@SIZES
def test_its_gradients_are_those_of_the_windows(size):
    given = inputs(size)
    weights = torch.randn_like(given[1])
    actual = torch.autograd.grad((mix_windows(*given) * weights).sum(), given)
    expected = torch.autograd.grad((by_windows(*given) * weights).sum(), given)
    torch.testing.assert_close(actual, expected)


def test_it_is_the_same_without_gradients():
    given = inputs((5, 7))
    with torch.no_grad():
        alone = mix_windows(*given)
    assert torch.equal(alone, mix_windows(*given))


def test_windows_are_summed_and_not_averaged():
    attention = torch.full((1, 1, 9, 9, 5, 5), 1 / 9)
    counts = torch.tensor([2.0, 3, 3, 3, 2])
    inside = mix_windows(attention, torch.ones(1, 1, 5, 5))[0, 0, 2, 2]
    assert inside == pytest.approx(9)
    by_position = mix_windows(
        torch.eye(9)[None, None, ..., None, None].expand_as(attention), (torch.ones(1, 1, 5, 5))
    )
    assert torch.equal(by_position[0, 0], counts[:, None] * counts)


def test_half_precision_is_summed_in_float32():
    attention, values = inputs((3, 3), torch.bfloat16)
    assert mix_windows(attention, values).dtype == torch.float32
