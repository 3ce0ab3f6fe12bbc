"""Patch and batch size."""

from __future__ import annotations

import itertools
import random
import re
from functools import partial

import pytest

from nnmedseg.errors import UserError
from nnmedseg.planners._patch_search import largest_that_fits, patches_of, round_up
from nnmedseg.planners.memory import TrainingMemory
from nnmedseg.planners.patches import GIB, choose_patch_and_batch

BYTES_A_PIXEL = 1000


def measure(patch, checkpointing=False, *, calls=None):
    """A step's memory: attention makes it grow a little faster than the pixels do."""
    if calls is not None:
        calls.append((patch, checkpointing))
    pixels = patch[0] * patch[1]
    each = pixels * BYTES_A_PIXEL + pixels**2 // 10**4
    return TrainingMemory(fixed=10**7, per_sample=each // (4 if checkpointing else 1), outputs=4)


def plan(median=(200.0, 300.0), gib=8.0, pixels=1e12, measure=measure, **options):
    sizes = {"size_divisor": 16, "min_size": 16} | options
    return choose_patch_and_batch(
        median, measure=measure, target_gib=gib, pixels_in_dataset=pixels, **sizes
    )


def test_the_patch_covers_the_median_image_in_multiples_of_the_divisor():
    assert plan().patch_size == (208, 304)


def test_one_more_image_would_not_fit():
    chosen = plan(gib=1.0)
    assert measure(chosen.patch_size).total(chosen.batch_size) <= GIB
    assert measure(chosen.patch_size).total(chosen.batch_size + 1) > GIB


def test_the_next_larger_patch_would_not_fit():
    chosen = plan(median=(1000.0, 2000.0), gib=2.0, checkpointed=False)
    patches = patches_of((1000.0, 2000.0), divisor=16, smallest=(16, 16))
    larger = patches[patches.index(chosen.patch_size) - 1]
    assert measure(chosen.patch_size).total(2) <= 2 * GIB < measure(larger).total(2)


def test_a_smaller_patch_keeps_the_aspect_ratio():
    height, width = plan(median=(1000.0, 2000.0), gib=1.5, checkpointed=False).patch_size
    assert width / height == pytest.approx(2, rel=0.1)


def test_memory_is_that_measured_for_the_final_patch():
    calls = []
    chosen = plan((1000.0, 2000.0), 1.5, measure=partial(measure, calls=calls))
    assert (chosen.patch_size, chosen.checkpointing) in calls
    known = measure(chosen.patch_size, chosen.checkpointing)
    assert chosen.memory == known.total(chosen.batch_size)


@pytest.mark.parametrize("gib", [0.3, 1.0, 2.0, 5.0])
def test_few_patches_are_measured(gib):
    calls = []
    plan((2000.0, 3000.0), gib, measure=partial(measure, calls=calls), checkpointed=False)
    assert len(calls) == len(set(calls)) <= 7


def test_patches_that_see_half_of_the_image_are_not_checkpointed():
    whole = measure((512, 768)).total(2) / GIB
    chosen = plan((512.0, 768.0), 0.6 * whole)
    assert not chosen.checkpointing
    assert chosen.patch_size[0] >= 256


def test_smaller_patches_are_avoided_by_checkpointing():
    half = measure((256, 384)).total(2) / GIB
    chosen = plan((512.0, 768.0), 0.9 * half)
    assert chosen.checkpointing
    assert chosen.patch_size[0] > 256


def test_patches_of_512_pixels_are_enough_of_a_huge_image():
    chosen = plan((4000.0, 6000.0), 1.1 * measure((512, 768)).total(2) / GIB)
    assert not chosen.checkpointing


def test_checkpointed_patches_shrink_too():
    chosen = plan((512.0, 512.0), 0.03)
    assert chosen.checkpointing
    assert chosen.patch_size < (256, 256)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_checkpointing_can_be_decided_by_the_caller(checkpointed):
    for gib in (0.1, 100.0):
        assert plan((512.0, 512.0), gib, checkpointed=checkpointed).checkpointing is checkpointed


def test_a_batch_covers_at_most_a_twentieth_of_the_data():
    assert plan(pixels=208 * 304 * 100).batch_size == 5


def test_the_batch_never_falls_below_two():
    assert plan(pixels=1.0).batch_size == 2


def test_a_network_that_cannot_fit_is_a_user_error_with_the_memory_that_it_needs():
    def huge(_patch, checkpointing):
        return TrainingMemory(9 * GIB - GIB * checkpointing, 10**6, outputs=1)

    with pytest.raises(UserError, match=r"16x16, the smallest, needs 8\.0 GiB, more than 4 GiB"):
        plan(gib=4.0, measure=huge)


REASONS = [
    ({}, r"^patches of 208x304 see the whole median image of 200x300$"),
    (
        {"median": (512.0, 768.0), "gib": 0.6},
        r"^patches of \d+x\d+ see \d\d % of the median image of 512x768: two of the whole image "
        r"would need 0\.8 GiB, more than 0\.6 GiB$",
    ),
    (
        {"median": (512.0, 768.0), "gib": 0.1},
        r"computed again in the backward pass \(checkpointing\), as otherwise even two patches of "
        r"256x384 would need 0\.2 GiB$",
    ),
    ({"checkpointed": True}, "computed again in the backward pass, as asked$"),
    ({"pixels": 208 * 304 * 100}, r"5 of them, not the \d+ that fit, are at most 5 % of all pix"),
    ({"pixels": 1.0}, "2 of them, not the .* are the smallest batch, as there are few images"),
]


@pytest.mark.parametrize(("case", "expected"), REASONS)
def test_the_reason_is_said(case, expected):

    assert re.search(expected, plan(**case).reason)


def random_case(seed):
    """An image, sizes of a network and memory, of which something fits."""
    drawn = random.Random(seed)
    divisor = drawn.choice([1, 8, 14, 16, 32])
    return {
        "median": (drawn.uniform(1, 1500), drawn.uniform(1, 1500)),
        "gib": drawn.choice([0.1, 0.3, 1.0, 4.0, 24.0]),
        "pixels": 10 ** drawn.uniform(2, 10),
        "size_divisor": divisor,
        "min_size": drawn.choice([1, 16, 64]),
        "checkpointed": drawn.choice([None, False, True]),
    }


@pytest.mark.parametrize("seed", range(60))
def test_every_plan_keeps_the_limits(seed):
    case = random_case(seed)
    chosen = plan(**case)
    divisor, least = case["size_divisor"], round_up(case["min_size"], case["size_divisor"])
    for side, image in zip(chosen.patch_size, case["median"], strict=True):
        assert side % divisor == 0
        assert least <= side <= max(round_up(image, divisor), least)
    assert chosen.batch_size >= 2
    assert chosen.memory <= case["gib"] * GIB
    share = chosen.batch_size * chosen.patch_size[0] * chosen.patch_size[1] / case["pixels"]
    assert chosen.batch_size == 2 or share <= 0.05 * 1.5  # a number of images is rounded


@pytest.mark.parametrize("seed", range(30))
def test_more_memory_never_gives_a_smaller_patch(seed):
    case = random_case(seed) | {"checkpointed": bool(seed % 2)}
    plans = [plan(**case | {"gib": gib}) for gib in (0.1, 0.2, 0.5, 1, 2, 4, 8)]
    areas = [chosen.patch_size[0] * chosen.patch_size[1] for chosen in plans]
    assert areas == sorted(areas)
    for smaller, larger in itertools.pairwise(plans):
        if smaller.patch_size == larger.patch_size:
            assert smaller.batch_size <= larger.batch_size


@pytest.mark.parametrize("seed", range(30))
def test_the_search_finds_what_trying_all_finds(seed):
    drawn = random.Random(seed)
    image = (drawn.uniform(50, 900), drawn.uniform(50, 900))
    patches = patches_of(image, divisor=16, smallest=(32, 32))
    target = int(10 ** drawn.uniform(7, 9.5))
    fitting = [patch for patch in patches if measure(patch).total(2) <= target]
    assert largest_that_fits(patches, measure, target) == (fitting or [None])[0]
