"""The networks compute what the authors' code computes, with the tolerances of the fixtures."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.networks.layers.mamba import MambaBlock
from nnmedseg.ops import selective_scan
from nnmedseg.weights import from_reference

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_golden(actual, expected, meta):
    torch.testing.assert_close(actual, expected, rtol=meta["rtol"], atol=meta["atol"])


def test_selective_scan(load_golden):
    meta, _, arrays = load_golden("selective_scan")
    tokens = {
        name: arrays[f"input_{name}"].transpose(1, 2) for name in ("u", "delta", "B", "C", "z")
    }
    out, last_state = selective_scan(
        tokens["u"],
        tokens["delta"],
        arrays["input_A"],
        tokens["B"],
        tokens["C"],
        D=arrays["input_D"],
        z=tokens["z"],
        dt_bias=arrays["input_delta_bias"],
        dt_softplus=True,
        return_last_state=True,
    )
    assert_golden(out.transpose(1, 2), arrays["output_0"], meta)
    assert_golden(last_state, arrays["output_1"], meta)


def test_mamba_block(load_golden):
    meta, state, arrays = load_golden("mamba_block")
    arguments = dict(meta["constructor"])
    block = MambaBlock(arguments.pop("d_model"), **arguments)
    block.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    with torch.no_grad():
        assert_golden(block(arrays["input"]), arrays["output_0"], meta)


def test_rosper_logits_and_probabilities(load_golden):
    meta, state, arrays = load_golden("rosper")
    network = from_reference("rosper", state)
    with torch.no_grad():
        logits = network(arrays["input"])
    assert len(logits) == 4
    for k, level in enumerate(logits):
        assert_golden(level, arrays[f"output_{k + 4}"], meta)
        assert_golden(level.sigmoid(), arrays[f"output_{k}"], meta)
