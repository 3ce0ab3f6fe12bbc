"""Compiled kernels compare, read and round numbers of float16 as NumPy does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnmedseg.inference.to_labels._resampling import AxisTaps

NO_NUMBA = "numba is not there for this Python"
row_kernels = pytest.importorskip("nnmedseg.inference.to_labels._row_kernels", reason=NO_NUMBA)
reduction_kernels = pytest.importorskip(
    "nnmedseg.inference.to_labels._reduction_kernels", reason=NO_NUMBA
)


def test_every_number_of_float16_is_compared_as_it_is() -> None:
    bits = np.random.default_rng(0).permutation(np.arange(-(2**15), 2**15))
    numbers = bits.astype(np.int16).view(np.float16)
    numbers = numbers[~np.isnan(numbers)].reshape(1, 1, 1, -1)
    pairs = torch.from_numpy(np.concatenate([numbers, numbers[..., ::-1], -numbers]))
    winners = row_kernels.find_winners(pairs)
    np.testing.assert_array_equal(winners, pairs.numpy().argmax(0))


def test_every_finite_number_of_float16_is_read_as_it_is() -> None:
    numbers = np.arange(-(2**15), 2**15).astype(np.int16).view(np.float16)
    logits = torch.from_numpy(numbers[np.isfinite(numbers)].reshape(1, 1, 1, -1))
    taps = [AxisTaps.linear(side, side) for side in logits.shape[1:]]
    assert torch.equal(row_kernels.interpolate(logits, taps), logits.float())


def test_rounding_to_float16_is_numpys() -> None:
    exponents = np.random.default_rng(0).uniform(-13, 15, 1000)
    numbers = (np.sign(exponents) * 2**exponents).astype(np.float32)
    halfway = np.array([1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11], np.float32)
    for number in (*numbers, *halfway):
        assert reduction_kernels.rounded_to_half(number) == np.float32(np.float16(number))
