"""The resolution at which photographs are worked on."""

import pytest

from nnmedseg.planners.resolution import choose_working_resolution, is_natural


def test_large_images_come_to_the_default_working_size():
    chosen = choose_working_resolution([(1, 2048, 3072)] * 3, None)
    assert 2048 / chosen.pixel_spacing == pytest.approx(256)


def test_small_images_are_used_as_they_are():
    assert choose_working_resolution([(1, 200, 400)], None).pixel_spacing == 1


def test_a_working_size_that_is_asked_for_may_enlarge():
    assert choose_working_resolution([(1, 100, 200)], 200).pixel_spacing == pytest.approx(0.5)


def test_the_shorter_side_of_the_median_image_decides():
    shapes = [(1, 100, 100), (1, 1024, 2000), (1, 6000, 4000)]
    assert choose_working_resolution(shapes, None).pixel_spacing == pytest.approx(1024 / 256)


def test_the_reason_names_the_sizes():
    reason = choose_working_resolution([(1, 1024, 2048)], None).reason
    assert "1024x2048" in reason
    assert "256x512" in reason


@pytest.mark.parametrize(
    ("spacing", "natural"), [((999, 1, 1), True), ((3.0, 0.7, 0.7), False), ((1, 1, 1), False)]
)
def test_photographs_are_told_by_the_readers_spacing(spacing, natural):
    assert is_natural([spacing]) is natural
