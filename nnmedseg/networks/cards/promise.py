"""The cards of ProMISe's three networks."""

from __future__ import annotations

from dataclasses import replace

from nnmedseg.networks.cards._card import NetworkFacts, PublishedCost, in_percent

_COMMON_NOTES = (
    "SAM is frozen; only the parameters counted as trainable are trained.",
    "Images are normalised with ImageNet's mean and standard deviation (normalize=True does it).",
)

_FOLDED = (
    "Relative positions are folded into the queries and keys of SAM's attention, which needs more "
    "operations and less memory than adding them."
)

PROMISE_APM_IPS = NetworkFacts(
    title="ProMISe: Promptable Medical Image Segmentation using SAM",
    authors="Jinfeng Wang, Sifan Song, Xinkun Wang, Yiyi Wang, Yiyi Miao, Jionglong Su and "
    "S. Kevin Zhou",
    repository="xinkunwang111/ProMISe@ce0cfdb34b10f664161bae09fa720bf8f643c79b",
    licence="MIT",
    short_title="ProMISe, APM + IPS",
    image_size=(1024, 1024),
    published_in="arXiv 2403.04164",
    weights_licence="The authors' code is MIT; SAM, whose weights are in their checkpoints and "
    "which training starts from, is Apache-2.0 (facebookresearch/segment-anything).",
    losses=("promise",),
    starts_from="SAM with ViT-B (sam_vit_b_01ec64.pth; ViT-L and ViT-H by the options of SAM)",
    published_cost=PublishedCost(
        note="The authors' network has 525,312 parameters more, of a layer that is computed and "
        "never used. " + _FOLDED
    ),
    results=in_percent(
        {
            "ISIC-2018": {"Dice": 92.1, "IoU": 85.0},
            "Kvasir-SEG": {"Dice": 91.1, "IoU": 85.1},
            "CVC-ColonDB": {"Dice": 87.4, "IoU": 78.9},
        }
    ),
    results_notes=(
        "As a public leaderboard records version 3 of the paper, without saying for which of the "
        "three networks. The authors' own files suggest the one that is given points from the "
        "ground truth (promise_ips_gt), at test time too: then these are numbers of an oracle.",
        "Mean over images, at 256 x 256, after a morphological opening with a 5 x 5 square. Every "
        "pixel of the reduced ground truth above 0 counts, which makes it up to a pixel fatter.",
        "On the polyp sets the checkpoint is chosen on the union of the five test sets.",
        "The released loss applies a second sigmoid.",
    ),
    notes=("Finds its own points and shifts SAM's mask tokens.", *_COMMON_NOTES),
)

PROMISE_APM = replace(
    PROMISE_APM_IPS,
    short_title="ProMISe, APM",
    notes=("Finds its own points; SAM's mask tokens are as they were.", *_COMMON_NOTES),
)

PROMISE_IPS_GT = replace(
    PROMISE_APM_IPS,
    short_title="ProMISe, IPS with given points",
    published_cost=PublishedCost(note=f"Counted without given points. {_FOLDED}"),
    notes=(
        "Shifts SAM's mask tokens and is given points, in the paper drawn from the ground truth: "
        "its results are those of an oracle, and no automatic segmentation.",
        "Called with an image alone it runs SAM without any prompt, which it never saw in "
        "training.",
        *_COMMON_NOTES,
    ),
)
