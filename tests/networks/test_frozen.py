"""Weights that training never changes, kept beside the checkpoints."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.errors import NotFoundError, WeightsError
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.frozen import FROZEN_WEIGHTS, WEIGHTS_VARIABLE, frozen_weights_in

TINY = {
    "sam_size": 64,
    "num_points": 4,
    "image_size": 64,
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "window_size": 3,
    "prompt_embed_dim": 64,
}


def build(seed):
    torch.manual_seed(seed)
    return PlannedNetwork(3, 2, network="promise_ips_gt", **TINY)


@pytest.fixture
def network():
    return build(0)


@pytest.fixture
def folder(network, tmp_path):
    torch.save(network.frozen_weights(), tmp_path / network.frozen_note()["file"])
    return tmp_path


@pytest.fixture(autouse=True)
def _no_other_places(monkeypatch):
    monkeypatch.delenv("nnUNet_results", raising=False)
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)


def test_a_checkpoint_holds_what_is_trained_and_a_note(network):
    trained = {name for name, x in network.named_parameters() if x.requires_grad}
    assert set(network.trained_weights()) == {*trained, FROZEN_WEIGHTS}


def test_frozen_buffers_are_left_out_too(network):
    matrix = "network.sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    assert matrix in network.frozen_weights()


def test_a_network_that_is_trained_as_a_whole_is_kept_as_a_whole():
    network = PlannedNetwork(3, 2, network="rosper", widths=[4, 4, 4, 4])
    assert network.trained_weights().keys() == network.state_dict().keys()


def test_another_network_gets_the_frozen_weights_back(network, folder):
    other = build(1)
    with frozen_weights_in(folder):
        other.load_state_dict(network.trained_weights())
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("variable", ["nnUNet_results", WEIGHTS_VARIABLE])
def test_nnunets_commands_find_them(network, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, str(tmp_path))
    folder = tmp_path / "Dataset" / "Model" if variable == "nnUNet_results" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.frozen_weights(), folder / network.frozen_note()["file"])
    other = build(1)
    other.load_state_dict(network.trained_weights())
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_no_file_is_needed_where_they_are_in_place(network):
    build(0).load_state_dict(network.trained_weights())


def test_a_missing_file_is_named(network):
    with pytest.raises(NotFoundError, match=network.frozen_note()["file"]):
        build(1).load_state_dict(network.trained_weights())


def test_other_weights_under_the_name_are_refused(network, folder):
    torch.save(build(2).frozen_weights(), folder / network.frozen_note()["file"])
    with frozen_weights_in(folder), pytest.raises(WeightsError, match="damaged, or not those"):
        build(1).load_state_dict(network.trained_weights())


def test_a_truncated_file_is_refused(network, folder):
    file = folder / network.frozen_note()["file"]
    file.write_bytes(file.read_bytes()[:1000])
    with frozen_weights_in(folder), pytest.raises(WeightsError, match="damaged"):
        build(1).load_state_dict(network.trained_weights())


def test_a_changed_weight_has_another_file(network):
    before = network.frozen_note()["file"]
    with torch.no_grad():
        network.network.sam.mask_decoder.mask_tokens.weight[0, 0] += 1
    assert network.frozen_note()["file"] != before


def test_the_memory_layout_does_not_change_the_name(network):
    before = network.frozen_note()["file"]
    network.to(memory_format=torch.channels_last)
    assert network.frozen_note()["file"] == before


def test_a_whole_state_dict_loads_as_ever(network):
    other = build(1)
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_frozen_parts_stay_in_evaluation_mode(network):
    network.train()
    assert network.network.ips.training
    assert not any(module.training for module in network.network.sam.modules())
