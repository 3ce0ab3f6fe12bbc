"""What a configuration says about its images beyond nnU-Net's schema."""

import pytest

from nnmedseg.planners.configurations import iterations_to_see_data_once, mark_input

from .facts_of import photographs, volumes


@pytest.fixture
def configuration():
    return {
        "preprocessor_name": "DefaultPreprocessor",
        "use_mask_for_norm": [False, False, False],
        "batch_size": 4,
        "patch_size": [100, 200],
        "architecture": {"network_class_name": "somewhere.PlainConvUNet"},
        "nnmedseg": {},
    }


def test_resized_photographs_name_our_preprocessor(configuration):
    mark_input(configuration, {"shorter_side": 512}, photographs())
    assert configuration["preprocessor_name"] == "MedSegPreprocessor"
    assert configuration["nnmedseg"]["input"] == {"shorter_side": 512}


def test_what_needs_this_package_says_so(configuration):
    mark_input(configuration, {"shorter_side": 512}, photographs())
    assert configuration["nnmedseg"]["requires"] == "nnmedseg"


def test_the_network_is_found_where_importing_it_registers_what_it_needs(configuration):
    mark_input(configuration, {"shorter_side": 512}, photographs())
    name = configuration["architecture"]["network_class_name"]
    assert name == "nnmedseg.nnunet.architectures.PlainConvUNet"


def test_photographs_used_as_they_are_keep_nnunets_preprocessor(configuration):
    mark_input(configuration, None, photographs())
    assert configuration["preprocessor_name"] == "DefaultPreprocessor"
    assert "input" not in configuration["nnmedseg"]


def test_volumes_need_nothing_but_nnunet(configuration):
    mark_input(configuration, None, volumes())
    assert configuration["nnmedseg"] == {}
    assert configuration["architecture"]["network_class_name"] == "somewhere.PlainConvUNet"


@pytest.mark.parametrize(
    ("facts", "stored"),
    [
        (photographs(), True),
        (photographs(eight_bit=False), False),
        (volumes(), False),
    ],
    ids=["8 bits", "16 bits", "volumes"],
)
def test_only_photographs_of_8_bits_are_stored_as_bytes(configuration, facts, stored):
    mark_input(configuration, None, facts)
    assert (configuration["nnmedseg"].get("store") == "uint8") is stored


def test_pixels_that_normalisation_leaves_at_zero_are_not_stored_as_bytes(configuration):
    configuration["use_mask_for_norm"] = [True, True, True]
    mark_input(configuration, {"shorter_side": 512}, photographs())
    assert "store" not in configuration["nnmedseg"]


def test_a_papers_intensities_leave_no_pixels_out(configuration):
    configuration["use_mask_for_norm"] = [True, True, True]
    given = {"size": [256, 256], "resize": "bilinear", "intensity": "imagenet"}
    mark_input(configuration, given, photographs())
    assert configuration["nnmedseg"]["store"] == "uint8"


def test_a_batch_that_holds_a_tenth_of_the_pixels_takes_ten_iterations(configuration):
    assert iterations_to_see_data_once(configuration, 10 * 4 * 100 * 200) == 10


def test_a_started_batch_counts(configuration):
    assert iterations_to_see_data_once(configuration, 4 * 100 * 200 + 1) == 2
