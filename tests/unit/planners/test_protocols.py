"""How the papers feed their networks."""

import pytest

from nnmedseg.networks import list_networks
from nnmedseg.planners.protocols import paper_protocol

from .facts_of import photographs, volumes

RGB = ["R", "G", "B"]


def protocol(network, facts=None, channel_names=RGB, classes=2):
    return paper_protocol(network, {}, facts or photographs(), channel_names, classes)


@pytest.mark.parametrize("network", list_networks())
def test_every_papers_protocol_is_known(network):
    found = protocol(network)
    assert found is not None
    assert found.batch_size >= 2


@pytest.mark.parametrize(
    ("network", "size", "batch"),
    [("rosper", 256, 8), ("asc", 256, 8), ("condseg", 256, 12), ("promise_apm", 1024, 8)],
)
def test_size_and_batch_are_the_papers(network, size, batch):
    found = protocol(network)
    assert (found.size, found.batch_size) == ((size, size), batch)


def test_heteromedseg_has_another_protocol_for_synapse():
    binary, organs = protocol("heteromedseg"), protocol("heteromedseg", volumes(), ["CT"], 9)
    assert (binary.size, binary.batch_size, binary.intensity) == ((256, 256), 44, "imagenet")
    assert (organs.size, organs.batch_size, organs.intensity) == ((224, 224), 24, "synapse")


def test_hounsfield_units_are_asked_of_ct_only():
    assert protocol("heteromedseg", volumes(), ["MRI"], 9).intensity is None


def test_colours_of_imagenet_are_asked_of_photographs_only():
    assert protocol("promise_apm").intensity == "imagenet"
    assert protocol("promise_apm", volumes(), ["CT"]).intensity is None


def test_sixteen_bits_are_not_divided_by_255():
    assert protocol("condseg", photographs(eight_bit=False)).intensity is None


def test_networks_with_one_protocol_share_their_data():
    assert protocol("rosper").data_identifier == protocol("asc").data_identifier


def test_other_intensities_have_data_of_their_own():
    assert protocol("rosper").data_identifier != protocol("condseg").data_identifier


def test_an_unknown_paper_has_no_protocol(monkeypatch):
    from nnmedseg.planners import protocols

    monkeypatch.delitem(protocols.BATCH_SIZES, "rosper")
    assert protocol("rosper") is None
