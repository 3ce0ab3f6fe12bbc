"""What nnU-Net gets from a planned network."""

import pytest
import torch

from nnmedseg.networks.adapter import LARGEST_LOGIT, PlannedNetwork, bounded

WIDTHS = [4, 4, 4, 4]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PlannedNetwork(3, 2, network="rosper", widths=WIDTHS)


@pytest.mark.parametrize("size", [(32, 48), (33, 50), (7, 100)])
def test_any_size_gives_logits_of_that_size(network, size):
    assert network.eval()(torch.randn(1, 3, *size)).shape == (1, 2, *size)


def test_evaluation_gives_one_tensor(network):
    network.auxiliary_in_training = True
    assert isinstance(network.eval()(torch.randn(1, 3, 16, 16)), torch.Tensor)


def test_training_gives_all_outputs_where_the_trainer_asks_for_them(network):
    network.auxiliary_in_training = True
    shapes = [tuple(logits.shape) for logits in network.train()(torch.randn(2, 3, 20, 30))]
    assert shapes == [(2, 2, 20, 30)] * 4


def test_training_gives_one_tensor_otherwise(network):
    assert isinstance(network.train()(torch.randn(2, 3, 16, 16)), torch.Tensor)


def test_nnunets_switch_gives_the_list_in_both_modes(network):
    network.decoder.deep_supervision = True
    image = torch.randn(2, 3, 16, 16)
    assert len(network.train()(image)) == len(network.eval()(image)) == 4


def test_the_finest_output_is_the_same_with_and_without_the_others(network):
    image = torch.randn(2, 3, 32, 32)
    alone = network.eval()(image)
    network.decoder.deep_supervision = True
    assert torch.equal(network(image)[0], alone)


def test_the_result_may_be_changed_in_place(network):
    image = torch.randn(1, 3, 30, 30)
    with torch.inference_mode():
        first = network.eval()(image)
        expected = first.clone()
        first += 1
        assert torch.equal(network(image), expected)


def test_padding_does_not_reach_an_image_that_needs_none(network):
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(network.eval()(image), network.network.eval()(image))


def test_ordinary_logits_are_left_untouched():
    logits = torch.tensor([-LARGEST_LOGIT, 0.1, LARGEST_LOGIT])
    assert torch.equal(bounded(logits), logits)


def test_excessive_logits_keep_their_order_and_fit_float16():
    logits = torch.tensor([1e9, 1e8, -1e9])
    found = bounded(logits)
    assert found.argsort().tolist() == logits.argsort().tolist()
    assert found.abs().max() <= LARGEST_LOGIT


@pytest.mark.parametrize(("own_loss", "computed"), [(False, 0), (True, 3)])
def test_auxiliary_outputs_are_computed_for_the_papers_loss_only(own_loss, computed):
    network = PlannedNetwork(3, 2, network="condseg", width=16).train()
    network.auxiliary_in_training, network.own_outputs_in_training = True, own_loss
    calls = []
    for head in network.network.auxiliary_heads.values():
        head.register_forward_hook(lambda *_: calls.append(1))
    assert len(network(torch.randn(2, 3, 32, 32))) == 1 + computed
    assert len(calls) == computed
