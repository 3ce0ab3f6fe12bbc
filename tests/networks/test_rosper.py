"""RoSPER-Net's own properties."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnmedseg.networks import create_network
from nnmedseg.networks.rosper import PMM


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_each_stage_are_the_published_ones():
    network = create_network("rosper", 3, 1)
    assert count(network) == 476_108
    assert [count(stage) for stage in network.encoder] == [6_228, 20_988, 45_588, 79_596]
    decoder = [count(stage) for stage in network.decoder]
    connect = [count(stage) for stage in network.connect]
    assert [d + c for d, c in zip(decoder, [*connect, 0], strict=True)] == [
        22_166,
        55_030,
        98_646,
        147_702,
    ]


def test_parameters_at_the_narrow_widths():
    assert count(create_network("rosper", 3, 1, widths=(8, 16, 24, 32))) == 168_988


def test_groups_of_a_pmm_share_one_mamba_block_and_do_not_mix():
    torch.manual_seed(0)
    module = PMM(16, d_state=4, d_conv=4, expand=2).eval()
    module.norm = nn.Identity()
    x = torch.randn(1, 16, 4, 4)
    changed = x.clone()
    changed[:, :4] += 1
    with torch.no_grad():
        difference = (module(changed)[0] - module(x)[0]).abs().amax(dim=(0, 2, 3))
    assert (difference[:4] > 0).all()
    assert (difference[4:] == 0).all()


def test_training_with_one_image_is_refused_by_batch_norm():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        create_network("rosper", 3, 2)(torch.zeros(1, 3, 16, 16))
