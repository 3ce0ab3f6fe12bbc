"""The card of RoSPER-Net."""

from __future__ import annotations

from nnmedseg.networks.cards._card import NetworkFacts, PublishedCost, in_percent

ROSPER = NetworkFacts(
    title="Robust Medical Image Segmentation with Spatial Prompting and Cross-Scale Edge "
    "Refinement",
    authors="Authors of the repository ILoveESWA/RoSPERNet",
    repository="ILoveESWA/RoSPERNet@a57178d1373507e7a42678747d8b834cc1d8fe4b",
    licence="Apache-2.0",
    short_title="RoSPER-Net",
    image_size=(256, 256),
    weights_licence="The authors publish no weights.",
    losses=("rosper",),
    published_cost=PublishedCost(
        millions_of_parameters=0.4672,
        gflops=4.8664,
        note="The authors' profiler, thop, counts a multiply-add once, so that 4.8664 stand "
        "for 9.7328 here. It skips the Mamba blocks (7,440 parameters) and the deformable "
        "convolutions (1,440), with which the parameters agree to the last digit, and it "
        "charges norms, pooling and upsampling in its own way. Heads and connections "
        "project the small map before they enlarge it here, which saves operations.",
    ),
    results=in_percent(
        {
            "ISIC2017": {"mIoU": 72.25, "DSC": 83.88, "Acc": 92.88, "Spe": 97.34, "Sen": 78.46},
            "ISIC2018": {"mIoU": 83.37, "DSC": 90.93, "Acc": 96.03, "Spe": 98.11, "Sen": 88.81},
            "PH2": {"mIoU": 93.94, "DSC": 96.87, "Acc": 97.71, "Spe": 98.45, "Sen": 96.44},
            "Kvasir": {"mIoU": 72.05, "DSC": 83.76, "Acc": 94.96, "Spe": 98.12, "Sen": 78.49},
            "BUSI": {"mIoU": 55.41, "DSC": 71.31, "Acc": 95.22, "Spe": 98.45, "Sen": 63.73},
        }
    ),
    results_notes=(
        "From the table in the repository; the paper's final table may differ.",
        "All pixels of all test images go into one confusion matrix, at 256 x 256: there is no "
        "mean over images, and mIoU is the IoU of the foreground.",
        "The released scripts shuffle training, validation and test parts separately, so that "
        "they overlap: on ISIC2018 37 of 520 test images are trained on, on PH2 2 of 20, on "
        "Kvasir 12 of 120.",
        "On Kvasir and BUSI the validation part, on which the checkpoint is chosen, is the test "
        "part.",
        "The shares of foreground behind the numbers show that PH2, Kvasir and perhaps ISIC2018 "
        "were scored on other test images than the paper's baselines. ISIC2017 (official split) "
        "and BUSI (fixed order) are the numbers to compare with.",
        "The Kvasir row does not agree with itself: its DSC does not follow from the other "
        "columns.",
    ),
    notes=(
        "The authors feed images scaled to 0..255 by their own minimum and maximum; a checkpoint "
        "of theirs needs that scale.",
        "Training needs a batch of at least two.",
    ),
)
