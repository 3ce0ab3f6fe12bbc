"""The resolution at which photographs are worked on."""

import json

import pytest

from nnmedseg.planners.facts import DatasetFacts
from nnmedseg.planners.resolution import choose_working_resolution


def facts_of(*sizes, spans=None, share=0.24, without_spacing=None):
    """Return facts of photographs; ``spans`` are those of each case, a tenth of it if ``None``."""
    if spans is None:
        spans = [(min(size) / 10,) for size in sizes]
    return DatasetFacts(
        without_spacing=len(sizes) if without_spacing is None else without_spacing,
        eight_bit=True,
        channels=3,
        image_sizes=sizes,
        cropped_sizes=sizes,
        foreground_shares=tuple(share if case else 0.0 for case in spans),
        spans={"lesion": tuple(tuple(case) for case in spans)},
    )


def choose(*sizes, working_size=None, **facts):
    return choose_working_resolution(facts_of(*sizes, **facts), working_size)


def test_large_images_come_to_512_pixels():
    chosen = choose(*[(2016, 3024)] * 3)
    assert chosen.shorter_side == 512
    assert chosen.median_shape == (512, 768)


def test_the_aspect_ratio_is_kept():
    height, width = choose(*[(2016, 3024)] * 3).resized((1000, 3000))
    assert (height, width) == (512, 1536)


def test_each_image_has_a_factor_of_its_own():
    chosen = choose((64, 64), (1000, 1000), (6000, 4000), (1000, 1000))
    assert [min(chosen.resized(size)) for size in ((64, 64), (6000, 4000))] == [512, 512]


def test_the_median_image_is_not_enlarged():
    chosen = choose((100, 200), (300, 400), (900, 1200))
    assert chosen.shorter_side == 300
    assert chosen.resized((300, 400)) == (300, 400)


def test_small_images_of_similar_size_are_used_as_they_are():
    chosen = choose(*[(288, 384)] * 5)
    assert chosen.shorter_side is None
    assert chosen.resized((290, 380)) == (290, 380)
    assert chosen.median_shape == (288, 384)


def test_a_slight_reduction_is_not_worth_a_resampling():
    assert choose(*[(600, 800)] * 5).shorter_side is None
    assert choose(*[(660, 800)] * 5).shorter_side == 512


def test_a_few_images_of_another_size_do_not_count():
    assert choose(*[(288, 384)] * 99, (3000, 4000)).shorter_side is None


@pytest.mark.parametrize("span", [14, 20, 31])
def test_the_smallest_foreground_keeps_8_pixels(span):
    chosen = choose(*[(2000, 3000)] * 10, spans=[(span,)] * 10)
    assert span * chosen.shorter_side / 2000 >= 8
    assert span * (chosen.shorter_side - 32) / 2000 < 8


def test_the_working_size_grows_to_a_multiple_of_32():
    chosen = choose(*[(4000, 6000)] * 4, spans=[(30,)] * 4)
    assert chosen.shorter_side == 1088
    assert "3.8 pixels only" in chosen.reason


def test_the_thinnest_foreground_is_never_reduced():
    chosen = choose(*[(3000, 4000)] * 4, spans=[(2,)] * 4)
    assert chosen.shorter_side is None
    assert "used at their own resolution" in chosen.reason
    assert "at least 2 pixels, fewer than the 8 wanted" in chosen.reason


def test_the_smallest_tenth_of_the_regions_may_become_smaller():
    spans = [(5,)] + [(400,)] * 10
    assert choose(*[(2000, 3000)] * 11, spans=spans).shorter_side == 512
    spans = [(5,)] * 2 + [(400,)] * 9
    assert choose(*[(2000, 3000)] * 11, spans=spans).shorter_side is None


def test_an_image_with_many_regions_weighs_like_any_other():
    spans = [(5,) * 500] + [(400,)] * 19
    assert choose(*[(2000, 3000)] * 20, spans=spans).shorter_side == 512


def test_the_label_with_the_smallest_regions_decides():
    facts = facts_of(*[(2000, 3000)] * 10)
    vessels = ((20.0,),) + ((),) * 9
    both = DatasetFacts(**{**vars(facts), "spans": {**facts.spans, "vessel": vessels}})
    assert choose_working_resolution(facts).shorter_side == 512
    assert choose_working_resolution(both).shorter_side == 800


def test_spans_are_compared_at_one_size_of_the_images():
    # a hundredth of the view in each image
    chosen = choose((1000, 1000), (4000, 4000), (4000, 4000), spans=[(10,), (40,), (40,)])
    assert chosen.shorter_side == 800


def test_without_foreground_the_usual_size_is_taken_and_said():
    chosen = choose(*[(2000, 3000)] * 3, spans=[()] * 3)
    assert chosen.shorter_side == 512
    assert "no mask has foreground" in chosen.reason


def test_a_single_image():
    assert choose((2000, 3000)).shorter_side == 512
    assert choose((200, 300)).shorter_side is None


def test_portrait_and_landscape_have_nnunets_medians():
    chosen = choose((2000, 3000), (3000, 2000), (3000, 2000))
    assert chosen.median_shape == (768, 512)
    assert choose((2000, 3000), (3000, 2000)).median_shape == (640, 640)


def test_the_reason_names_a_size_that_images_have():
    assert "images are 3000x2000 " in choose((2000, 3000), (3000, 2000), (3000, 2000)).reason
    chosen = choose((2000, 3000), (3000, 2000))
    assert "images are 2000x3000 " in chosen.reason
    assert "512 pixels (512x768)" in chosen.reason


def test_panoramas_keep_their_shorter_side():
    assert choose(*[(300, 6000)] * 3).shorter_side is None
    assert choose(*[(1000, 20000)] * 3).median_shape == (512, 10240)


def test_a_size_that_is_asked_for_is_taken_even_if_it_enlarges():
    chosen = choose(*[(288, 384)] * 3, working_size=576)
    assert chosen.resized((288, 384)) == (576, 768)
    assert "as asked for" in chosen.reason
    assert "fewer" not in chosen.reason


def test_a_size_that_loses_foreground_is_taken_with_a_warning():
    chosen = choose(*[(2000, 3000)] * 3, spans=[(40,)] * 3, working_size=256)
    assert chosen.shorter_side == 256
    assert "5.1 pixels, fewer than the 8 wanted" in chosen.reason


def test_images_in_millimetres_follow_nnunets_rules():
    chosen = choose(*[(2000, 3000)] * 3, without_spacing=0, working_size=256)
    assert chosen.shorter_side is None
    assert "nnU-Net's own rules" in chosen.reason
    assert "for photographs only" in chosen.reason


def test_a_mixture_is_said_to_be_one():
    chosen = choose(*[(2000, 3000)] * 3, without_spacing=1)
    assert chosen.shorter_side is None
    assert "1 of 3 images" in chosen.reason


def test_the_reason_is_a_sentence_about_the_images():
    assert choose((2016, 3024), (2016, 3024), (1200, 1600)).reason == (
        "images are 2016x3024 in the median (shorter sides 1200 to 2016) and their foreground "
        "covers 24 % of the frame: they are brought to a shorter side of 512 pixels (512x768), at "
        "which all but the smallest tenth of the foreground spans at least 51 pixels"
    )


def test_small_shares_are_given_in_two_digits():
    assert "covers 0.13 % of the frame" in choose((600, 800), share=0.0013).reason


def test_the_inputs_can_be_written_to_a_plan():
    inputs = choose((2000, 3000), (1000, 1500), (2000, 3000)).inputs
    assert json.loads(json.dumps(inputs)) == {
        "asked_for": None,
        "median_size": [2000, 3000],
        "shorter_sides": {"smallest": 1000, "median": 2000, "largest": 2000},
        "foreground_share": 0.24,
        "smallest_span": {"percentile": 10, "wanted": 8, "before": 100.0, "after": 51.2},
    }
