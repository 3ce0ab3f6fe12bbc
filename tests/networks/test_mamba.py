"""The Mamba block's own properties."""

from __future__ import annotations

import torch
from torch.nn import functional

from nnmedseg.networks.layers.mamba import MambaBlock


def test_parameters_are_counted_as_in_the_reference():
    assert sum(p.numel() for p in MambaBlock(16).parameters()) == 3_360


def test_a_token_sees_only_itself_and_those_before_it():
    torch.manual_seed(0)
    block = MambaBlock(8)
    tokens = torch.randn(1, 20, 8)
    changed = tokens.clone()
    changed[:, 10] += 1
    with torch.no_grad():
        difference = (block(changed) - block(tokens)).abs().amax(dim=(0, 2))
    assert (difference[:10] == 0).all()
    assert (difference[10:] > 0).all()


def test_steps_start_between_a_thousandth_and_a_tenth():
    steps = functional.softplus(MambaBlock(64).dt_proj.bias)
    assert (steps >= 0.001 - 1e-6).all()
    assert (steps <= 0.1 + 1e-6).all()


def test_more_than_sixteen_features_have_a_second_step_rank():
    assert MambaBlock(16).dt_rank == 1
    assert MambaBlock(17).dt_rank == 2
