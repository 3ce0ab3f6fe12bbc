"""How the papers feed their networks."""

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.networks import list_networks
from nnmedseg.planners.protocols import paper_protocol, paper_recipe

from .facts_of import photographs, volumes

RGB = ["R", "G", "B"]


def protocol(network, facts=None, channel_names=RGB, classes=2, dataset_name="Kvasir-SEG"):
    return paper_protocol(
        network,
        {},
        facts or photographs(),
        channel_names=channel_names,
        classes=classes,
        dataset_name=dataset_name,
    )


def labels(count, **more):
    names = {"background": 0, **{f"class {number}": number for number in range(1, count)}, **more}
    return LabelManager(names, None)


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


def test_a_paper_may_have_a_batch_for_one_data_set():
    assert protocol("heteromedseg", dataset_name="ISIC2018").batch_size == 42


RECIPES = {
    "": {"loss": "rosper", "epochs": 3},
    "ISIC2018": {"loss": "rosper", "epochs": 2},
    "several_classes": {"loss": "heteromedseg", "epochs": 1},
}


@pytest.mark.parametrize(
    ("classes", "name", "epochs"), [(2, "PH2", 3), (2, "ISIC2018", 2), (9, "ISIC2018", 1)]
)
def test_the_recipe_is_that_for_the_data(classes, name, epochs):
    recipe, reason = paper_recipe(RECIPES, labels(classes), name)
    assert recipe["epochs"] == epochs
    assert "paper's loss" in reason


@pytest.mark.parametrize(
    ("given", "obstacle"), [(labels(3), "several foreground"), (labels(2, ignore=2), "ignore")]
)
def test_a_loss_that_does_not_suit_the_labels_gives_way_to_nnunets(given, obstacle):
    recipe, reason = paper_recipe({"": RECIPES[""]}, given, "PH2")
    assert recipe == {"loss": "nnunet", "epochs": 3}
    assert obstacle in reason


def test_a_network_without_a_paper_has_no_recipe():
    assert paper_recipe({}, labels(2), "PH2") is None
