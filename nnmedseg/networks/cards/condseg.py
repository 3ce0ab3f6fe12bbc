"""The cards of ConDSeg's two networks."""

from __future__ import annotations

from dataclasses import replace

from nnmedseg.networks.cards._card import NetworkFacts, PublishedCost, in_percent

CONDSEG = NetworkFacts(
    title="ConDSeg: A General Medical Image Segmentation Framework via Contrast-Driven Feature "
    "Enhancement",
    authors="Mengqi Lei, Haochen Wu, Xinhua Lv and Xin Wang",
    repository="Mengqi-Lei/ConDSeg@e6a314b554d81c1b0fa86596d878c048c7302416",
    licence="research and education only",
    short_title="ConDSeg",
    image_size=(256, 256),
    published_in="AAAI 2025, 39(5), 4571-4579; arXiv 2412.08345",
    weights_licence="Weights that the authors trained are for research and education only, as "
    "their code is; they publish none so far. This implementation is independent of that code "
    "(Apache-2.0).",
    losses=("condseg",),
    starts_from="an encoder trained on ImageNet-1k (timm's resnet50.tv_in1k or pvt_v2_b2.in1k), "
    "then condseg_stage1",
    published_cost=PublishedCost(
        note="Convolutions and matrix products of the authors' network need 202.2 GFLOPs too."
    ),
    results=in_percent(
        {
            "Kvasir-Sessile": {"mIoU": 81.2, "mDSC": 89.1, "Rec.": 90.1, "Prec.": 90.0},
            "Kvasir-SEG": {"mIoU": 84.6, "mDSC": 90.5, "Rec.": 92.3, "Prec.": 91.7},
            "GlaS": {"mIoU": 85.1, "mDSC": 91.6, "Rec.": 93.5, "Prec.": 90.5},
            "ISIC-2016": {"mIoU": 86.8, "mDSC": 92.5},
            "ISIC-2017": {"mIoU": 80.9, "mDSC": 88.3},
        }
    ),
    results_notes=(
        "The row of the ResNet-50 network; none is published for the transformer.",
        "Mean over images of the foreground's score, at 256 x 256. An empty prediction has "
        "precision 1, an empty mask recall 1.",
        "On Kvasir-SEG, GlaS and ISIC-2016 the checkpoint is chosen on the images that give the "
        "number (test set selection). The lists of Kvasir-SEG and Kvasir-Sessile are not "
        "published.",
        "The released loss applies a second sigmoid, and two thirds of the training images get a "
        "background target that does not fit. The authors have since removed the former.",
        "Users report Kvasir-SEG within about two points, and one of them an mIoU of 58 on GlaS.",
    ),
    notes=(
        "With encoder=pvt_v2_b2 sides are multiples of 32 instead of 16.",
        "The authors' checkpoints expect the channels blue, green, red, from 0 to 1.",
        "Three auxiliary outputs (foreground, background, uncertainty) are for the loss alone.",
    ),
)

CONDSEG_STAGE1 = replace(
    CONDSEG,
    short_title="ConDSeg, stage 1",
    published_cost=PublishedCost(
        note="Convolutions of the authors' network need 24.2 GFLOPs, because it enlarges the maps "
        "before their 1x1 convolutions instead of after them."
    ),
    losses=("condseg_stage1",),
    starts_from="an encoder trained on ImageNet-1k (timm's resnet50.tv_in1k or pvt_v2_b2.in1k)",
    results=(),
    results_notes=("The paper reports the network of the second stage only.",),
    notes=(
        "Trains the encoder that the second stage, condseg, goes on with.",
        "With encoder=pvt_v2_b2, which the authors do not have here, sides are multiples of 32 "
        "instead of 16.",
        "The authors' checkpoints expect the channels blue, green, red, from 0 to 1.",
    ),
)
