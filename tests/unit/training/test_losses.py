"""The loss over several outputs."""

import pytest
import torch
from torch import nn

from nnmedseg.training.losses import AuxiliaryLoss, resized_target

TARGET = torch.tensor([[[[0, 1], [1, 0]]]])


class MeanDifference(nn.Module):
    def forward(self, logits, target):
        return (logits.mean() - target.float().mean()).abs()


def outputs_of(*values, size=(2, 2)):
    return [torch.full((1, 1, *size), float(value)) for value in values]


def test_one_tensor_gives_the_base_loss():
    assert AuxiliaryLoss(MeanDifference())(outputs_of(2)[0], TARGET) == 1.5


def test_equal_weights_give_the_mean():
    assert AuxiliaryLoss(MeanDifference())(outputs_of(0.5, 2.5), TARGET) == 1.0


def test_weights_are_relative():
    loss = AuxiliaryLoss(MeanDifference(), weights=(3, 1))
    assert loss(outputs_of(0.5, 4.5), TARGET) == 1.0


def test_every_output_gets_a_gradient():
    outputs = [output.requires_grad_() for output in outputs_of(1, 2, 3)]
    AuxiliaryLoss(MeanDifference())(outputs, TARGET).backward()
    assert all(output.grad is not None and output.grad.abs().sum() > 0 for output in outputs)


def test_a_number_of_weights_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        AuxiliaryLoss(MeanDifference(), weights=(1,))(outputs_of(1, 2), TARGET)


def test_a_smaller_output_gets_the_nearest_target():
    target = torch.arange(16).reshape(1, 1, 4, 4)
    assert resized_target(target, torch.empty(1, 2, 2, 2)).tolist() == [[[[5, 7], [13, 15]]]]
