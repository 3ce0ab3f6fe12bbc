"""What a training starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from nnmedseg.errors import NotFoundError, WeightsError
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.training.pretrained import load_pretrained

from .biformer import biformer_entries

SMALL = json.loads((Path(__file__).parent / "small_options.json").read_text())["heteromedseg"]


@pytest.fixture
def heteromedseg():
    sizes = {**SMALL, "widths": [16, 32, 64, 128], "depths": [2, 2, 2, 2]}
    return PlannedNetwork(3, 2, network="heteromedseg", **sizes)


@pytest.fixture
def file(tmp_path):
    torch.save({"model": biformer_entries()}, tmp_path / "biformer_base_best.pth")
    return tmp_path / "biformer_base_best.pth"


def entries(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(network, before):
    return [name for name, tensor in network.state_dict().items() if not tensor.equal(before[name])]


def test_a_file_is_loaded(heteromedseg, file):
    before = entries(heteromedseg)
    assert "pretrained weights" in load_pretrained(heteromedseg, str(file))
    assert "network.stem.3.weight" in changed(heteromedseg, before)


def test_weights_that_are_not_at_hand_stop_the_training(heteromedseg):
    with pytest.raises(WeightsError, match="biformer_base_best") as error_info:
        load_pretrained(heteromedseg, "paper")
    assert "--encoder-weights none" in str(error_info.value)


def test_random_weights_are_taken_when_asked_for(heteromedseg):
    before = entries(heteromedseg)
    assert "random" in load_pretrained(heteromedseg, "none")
    assert not changed(heteromedseg, before)


def test_a_paper_that_starts_from_nothing_needs_no_file():
    assert "random" in load_pretrained(PlannedNetwork(3, 2, network="rosper"), "paper")


def test_a_file_for_a_paper_that_starts_from_nothing_is_refused(file):
    with pytest.raises(NotFoundError, match="rosper"):
        load_pretrained(PlannedNetwork(3, 2, network="rosper"), str(file))


def test_nnunets_own_network_takes_no_file(file):
    with pytest.raises(WeightsError, match="--encoder-weights"):
        load_pretrained(nn.Conv2d(3, 2, 1), str(file))


def test_a_compiled_network_is_loaded(heteromedseg, file):
    before = entries(heteromedseg)
    compiled = nn.Module()
    compiled._orig_mod = heteromedseg
    load_pretrained(compiled, str(file))
    assert "network.stem.3.weight" in changed(heteromedseg, before)


def test_the_encoders_parameters_are_those_that_the_file_has(heteromedseg, file):
    before = entries(heteromedseg)
    load_pretrained(heteromedseg, str(file))
    own = {id(parameter) for parameter in heteromedseg.network.encoder_parameters()}
    parameters = dict(heteromedseg.named_parameters())
    loaded = parameters.keys() & set(changed(heteromedseg, before))  # beside batch statistics
    assert {name for name, x in parameters.items() if id(x) in own} == loaded
