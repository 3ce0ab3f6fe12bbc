"""What the model cards say, against the networks and the published counts."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from nnmedseg.errors import NotFoundError
from nnmedseg.losses import list_losses
from nnmedseg.model_cards import card_text, describe_network, summarise_network, table_text
from nnmedseg.model_cards._docstrings import option_meanings
from nnmedseg.networks import list_networks, network_facts, network_options
from nnmedseg.weights import load_encoder_weights

REQUIRED = (
    "short_title",
    "title",
    "authors",
    "citation",
    "repository",
    "licence",
    "weights_licence",
    "image_size",
    "size_divisor",
    "min_size",
    "options",
    "losses",
    "results_notes",
    "notes",
)

each_network = pytest.mark.parametrize("name", list_networks())


@cache
def card(name: str) -> dict[str, Any]:
    return describe_network(name)


@each_network
def test_a_card_is_complete(name):
    assert [field for field in REQUIRED if not card(name)[field]] == []


@each_network
def test_every_option_has_its_default(name):
    defaults = {option["name"]: option["default"] for option in card(name)["options"]}
    expected = network_options(name)
    assert defaults == {
        option: list(value) if isinstance(value, tuple) else value
        for option, value in expected.items()
    }


@each_network
def test_every_option_has_a_meaning_of_one_plain_line(name):
    for option in card(name)["options"]:
        assert option["meaning"].endswith(".")
        assert not set("`\n") & set(option["meaning"])


@pytest.mark.parametrize(
    ("name", "parameters", "trainable"),
    [
        ("rosper", 476_108, 476_108),
        ("asc", 222_408, 222_408),
        ("heteromedseg", 23_438_334, 23_438_334),
        ("condseg", 45_552_786, 45_552_786),
        ("condseg_stage1", 8_662_848, 8_662_848),
        ("promise_apm", 122_451_920 - 525_312, 28_716_448 - 525_312),
        ("promise_apm_ips", 123_764_688 - 525_312, 30_029_216 - 525_312),
        ("promise_ips_gt", 95_048_240, 1_312_768),
    ],
)
def test_parameters_are_those_of_the_authors_code(name, parameters, trainable):
    assert (card(name)["parameters"], card(name)["trainable_parameters"]) == (parameters, trainable)


@pytest.mark.parametrize(
    ("name", "left_out"), [("rosper", 8_880), ("asc", 3_720), ("heteromedseg", 8_190)]
)
def test_the_published_parameters_lack_what_the_card_says(name, left_out):
    published = card(name)["published_cost"]["millions_of_parameters"] * 1e6
    last_digit = 1e4 if name == "heteromedseg" else 1e2
    assert 0 <= card(name)["parameters"] - left_out - published < last_digit


@pytest.mark.parametrize(
    ("name", "gflops"), [("rosper", 4.61 * 2), ("asc", 1.78 * 2), ("condseg", 202.2)]
)
def test_operations_are_near_the_authors_networks(name, gflops):
    assert card(name)["flops"] / 1e9 == pytest.approx(gflops, rel=0.1)


def test_the_auxiliary_outputs_cost_operations():
    assert card("condseg")["flops"] > 1.2 * card("condseg")["flops_of_the_main_output"]


@each_network
def test_results_are_percentages_or_have_another_unit(name):
    for result in card(name)["results"]:
        assert 0 < result["value"] <= 100
        assert result["unit"] == "%" or result["metric"] == "HD95"


@pytest.mark.parametrize("name", [name for name in list_networks() if network_facts(name).results])
def test_dice_is_at_least_iou(name):
    rows: dict[str, dict[str, float]] = {}
    for result in card(name)["results"]:
        metric = result["metric"].removeprefix("m").replace("DSC", "Dice")
        rows.setdefault(result["data_set"], {})[metric] = result["value"]
    for row in rows.values():
        assert row["Dice"] > row.get("IoU", 0)


@each_network
def test_the_losses_of_a_card_exist(name):
    assert {loss["name"] for loss in card(name)["losses"]} <= set(list_losses())


@each_network
def test_a_card_names_a_start_where_there_are_weights_to_start_from(name, tmp_path):
    with pytest.raises(NotFoundError) as raised:
        load_encoder_weights(name, None, tmp_path / "missing.pth")
    has_none = "starts from no pretrained weights" in str(raised.value)
    assert has_none == (not card(name)["starts_from"])


@each_network
def test_every_network_imports_its_authors_checkpoints(name):
    assert card(name)["imports_checkpoints"]


@each_network
def test_the_text_of_a_card_fits_the_terminal(name):
    assert max(map(len, card_text(card(name)).splitlines())) <= 100


def test_a_card_shows_results_as_one_row_a_data_set():
    rows = [line.split() for line in card_text(card("condseg")).splitlines()]
    assert ["Kvasir-SEG", "84.60", "90.50", "92.30", "91.70"] in rows
    assert ["ISIC-2016", "86.80", "92.50", "-", "-"] in rows


def test_a_summary_is_part_of_the_card():
    assert summarise_network("asc").items() <= card("asc").items()


def test_columns_of_the_table_are_aligned():
    lines = table_text([card("rosper"), card("promise_ips_gt")]).splitlines()
    words = ("PAPER", "RoSPER", "ProMISe")
    starts = {line.index(word) for line, word in zip(lines, words, strict=True)}
    assert len(starts) == 1


def test_meanings_are_joined_shared_and_inherited():
    class Base:
        """Base.

        Args:
            first, second: Both of
                ``these``.
            third: Base's.
        """

    class Derived(Base):
        """Derived.

        Args:
            third: Its own.

        Raises:
            fourth: No argument.
        """

    assert option_meanings(Derived) == {
        "first": "Both of these.",
        "second": "Both of these.",
        "third": "Its own.",
    }
