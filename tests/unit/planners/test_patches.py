"""Patch and batch size."""

import pytest

from nnmedseg.errors import UserError
from nnmedseg.planners.memory import TrainingMemory
from nnmedseg.planners.patches import GIB, choose_patch_and_batch

BYTES_A_PIXEL = 1000


def measure(patch, checkpointing=False):
    return TrainingMemory(fixed=0, per_sample=patch[0] * patch[1] * BYTES_A_PIXEL, outputs=4)


def plan(median=(200.0, 300.0), gib=8.0, pixels=1e12, measure=measure):
    return choose_patch_and_batch(
        median,
        size_divisor=16,
        min_size=16,
        measure=measure,
        target_gib=gib,
        pixels_in_dataset=pixels,
    )


def test_the_patch_covers_the_median_image_in_multiples_of_the_divisor():
    assert plan().patch_size == (208, 304)


def test_the_step_fits_the_memory():
    chosen = plan(gib=1.0)
    assert chosen.memory <= GIB


def test_one_more_image_would_not_fit():
    chosen = plan(gib=1.0)
    assert measure(chosen.patch_size).total(chosen.batch_size + 1) > GIB


def test_the_patch_shrinks_until_two_images_fit():
    chosen = plan(median=(2000.0, 2000.0), gib=1.0)
    assert chosen.batch_size == 2
    assert chosen.memory <= GIB


def test_a_shrunken_patch_keeps_the_aspect_ratio():
    height, width = plan(median=(1000.0, 2000.0), gib=1.0).patch_size
    assert width / height == pytest.approx(2, rel=0.1)


def test_a_batch_covers_at_most_a_twentieth_of_the_data():
    chosen = plan(pixels=208 * 304 * 100)
    assert chosen.batch_size == 5


def test_the_batch_never_falls_below_two():
    assert plan(pixels=1.0).batch_size == 2


def test_a_network_that_cannot_fit_is_a_user_error():
    with pytest.raises(UserError, match="GiB"):
        plan(
            measure=lambda patch, checkpointing: TrainingMemory(
                fixed=9 * GIB, per_sample=10**6, outputs=1
            )
        )
