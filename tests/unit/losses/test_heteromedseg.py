"""HeteroMedSeg's losses."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.losses import create_loss, loss_forms
from nnmedseg.losses.heteromedseg import dice_by_class


def test_a_perfect_prediction_costs_nothing():
    target = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = 100 * torch.nn.functional.one_hot(target, 4).permute(0, 3, 1, 2).float()
    assert create_loss("heteromedseg")(logits, target) < 1e-5


def test_a_class_that_is_nowhere_and_predicted_nowhere_costs_nothing():
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0] = 200
    losses = dice_by_class(logits, torch.zeros(1, 4, 4))
    assert losses.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("shape", [(2, 6, 6), (2, 1, 6, 6)])
def test_class_numbers_come_in_any_type_with_or_without_a_channel(dtype, shape):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 6, generator=generator)
    target = torch.randint(0, 3, (2, 6, 6), generator=generator)
    loss = create_loss("heteromedseg")
    assert torch.equal(loss(logits, target.to(dtype).view(shape)), loss(logits, target))


def test_the_dice_of_one_logit_is_over_the_batch():
    logits = torch.full((2, 1, 1, 2), 100.0)
    target = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(2, 1, 1, 2)
    assert create_loss("heteromedseg")(logits, target).item() == pytest.approx(1 - 5 / 7)


def test_a_list_of_one_output_is_taken_too():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    loss, target = create_loss("heteromedseg"), torch.ones(1, 4, 4)
    assert torch.equal(loss([logits], target), loss(logits, target))


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    loss, target = create_loss("heteromedseg"), torch.ones(1, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(logits.bfloat16(), target)
    torch.testing.assert_close(found, loss(logits.bfloat16().float(), target))


def test_there_is_no_released_fault():
    assert loss_forms("heteromedseg") == ("corrected",)
