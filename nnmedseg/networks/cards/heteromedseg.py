"""The card of HeteroMedSeg."""

from __future__ import annotations

from nnmedseg.networks.cards._card import NetworkFacts, PublishedCost, Result

HETEROMEDSEG = NetworkFacts(
    title="Bidirectional Mamba and Routing-attention Synergistic Network for Efficient Medical "
    "Image Segmentation",
    authors="Authors of the repository Yuyan-Bin/Synergistic-Network",
    repository="Yuyan-Bin/Synergistic-Network@1a70e62d01c63734917344b47510f98c000cdfb2",
    licence="Apache-2.0",
    short_title="HeteroMedSeg",
    image_size=(224, 224),
    input_channels=1,
    num_classes=9,
    weights_licence="The authors name none of their own for their checkpoint, so that of the "
    "repository; BiFormer, whose weights training starts from, is MIT.",
    losses=("heteromedseg",),
    starts_from="BiFormer-Base trained on ImageNet-1k (rayleizhu/BiFormer, "
    "biformer_base_best.pth): the convolutions that halve the map, and layer norms",
    published_cost=PublishedCost(
        millions_of_parameters=23.43,
        note="The authors' profiler, thop, covers what is run (the fourth encoder stage, "
        "14,471,824 parameters, is built and never run) without group norms and the state-space "
        "parameters A, D and dt (8,190), with which the parameters agree to the last digit. It "
        "gives 7.25 G multiply-adds, 14.5 GFLOPs here, without scans and products of attention; "
        "the authors do not publish that.",
    ),
    results=(
        Result("Synapse", "Dice", 84.0),
        Result("Synapse", "HD95", 13.76, unit="voxels"),
    ),
    results_notes=(
        "From the repository; nothing is published for the other three data sets of the paper.",
        "Whole volumes, mean over 12 test cases and then over 8 organs. No voxel spacing is used, "
        "so the published mm of HD95 are voxels.",
        "A missed organ costs HD95 nothing: it counts as 0.",
        "There is no validation part. The learning rate restarts during training, and the "
        "released checkpoint can only have been chosen on the test cases.",
    ),
    notes=(
        "The released code scans from left to right (mixer=causal); the paper describes the "
        "non-causal form. The same weights load into both.",
        "Images of one channel are repeated to the three of the stem.",
    ),
)
