"""The card of ASC-Seg."""

from __future__ import annotations

from nnmedseg.networks.cards._card import NetworkFacts, PublishedCost, in_percent

ASC = NetworkFacts(
    title="Adaptive Structure Alignment and Cross-scale Decoding for Medical Image Segmentation",
    authors="Authors of the repository ILoveBSPC/ASC-Seg",
    repository="ILoveBSPC/ASC-Seg@c1a81bef5079e862c61acd2ca138a266b88797a1",
    licence="Apache-2.0",
    short_title="ASC-Seg",
    image_size=(256, 256),
    weights_licence="The authors publish no weights.",
    losses=("asc",),
    published_cost=PublishedCost(
        millions_of_parameters=0.2186,
        gflops=1.8881,
        note="The authors' profiler, thop, counts a multiply-add once, so that 1.8881 stand "
        "for 3.7762 here. It skips the Mamba blocks (3,000 parameters) and the deformable "
        "convolutions (720), with which the parameters agree to the last digit, and it "
        "charges norms, pooling and upsampling in its own way. Heads and connections "
        "project the small map before they enlarge it here, which saves operations. The "
        "paper's figure shows twice the widths that these numbers belong to.",
    ),
    results=in_percent(
        {
            "ISIC2017": {"mIoU": 73.90, "DSC": 84.99, "Acc": 91.20, "Spe": 95.93, "Sen": 80.61},
            "ISIC2018": {"mIoU": 82.96, "DSC": 90.32, "Acc": 95.64, "Spe": 97.01, "Sen": 90.90},
            "PH2": {"mIoU": 93.90, "DSC": 96.85, "Acc": 97.67, "Spe": 97.87, "Sen": 97.33},
            "Kvasir": {"mIoU": 78.36, "DSC": 87.87, "Acc": 96.12, "Spe": 97.82, "Sen": 87.27},
            "BUSI": {"mIoU": 59.67, "DSC": 74.74, "Acc": 95.43, "Spe": 98.21, "Sen": 69.53},
        }
    ),
    results_notes=(
        "From the table in the repository.",
        "All pixels of all test images go into one confusion matrix, at 256 x 256: there is no "
        "mean over images, and mIoU is the IoU of the foreground.",
        "The released scripts shuffle training, validation and test parts separately, so that "
        "they overlap: on ISIC2018 37 of 520 test images are trained on, on PH2 2 of 20, on "
        "Kvasir 12 of 120, on BUSI 12 of 129.",
        "The shares of foreground behind the numbers show that ISIC2017 and PH2, and it seems "
        "Kvasir and BUSI, were scored on other test images than the paper's baselines.",
        "On ISIC2018 the mIoU does not fit the other columns; by these it would be 82.35.",
        "The released test script does not run as it stands, so these numbers are a rough guide.",
    ),
    notes=(
        "The authors feed images scaled to 0..255 by their own minimum and maximum; a checkpoint "
        "of theirs needs that scale.",
        "Training needs a batch of at least two.",
    ),
)
