"""What a network's options ask of its plan."""

from __future__ import annotations

import pytest

from nnmedseg.planners.architecture import Architecture
from nnmedseg.planners.network_plan import NetworkPlanner

from .facts_of import photographs

TINY = {
    "image_size": 64,
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "num_points": 4,
    "prompt_embed_dim": 64,
    "window_size": 3,
}
CLASSES = {"background": 0, "one": 1, "two": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}


def planned(network, labels=CLASSES, **options):
    architecture = Architecture("Plans", network=network, options=TINY | options)
    description = {"labels": labels, "channel_names": {"0": "R", "1": "G", "2": "B"}}
    if labels is REGIONS:
        description["regions_class_order"] = [1, 2]
    planner = NetworkPlanner(
        architecture, photographs(), description, target_gib=8, dataset_name="Lesions"
    )
    plan = {}
    planner.fill(plan, (64.0, 96.0), 1e6)
    return plan


@pytest.mark.parametrize(
    ("network", "sam_size", "patch"),
    [
        ("promise_apm", None, [272, 272]),
        ("promise_apm", 320, [64, 96]),
        ("promise_ips_gt", None, [64, 96]),
    ],
)
def test_a_patch_is_as_large_as_training_needs(network, sam_size, patch):
    assert planned(network, sam_size=sam_size)["patch_size"] == patch


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_a_network_is_told_of_regions(labels):
    arguments = planned("promise_ips_gt", labels, sam_size=64)["architecture"]["arch_kwargs"]
    assert arguments.get("regions", False) == (labels is REGIONS)
