"""The papers' own recipes, for configuration ``2d_paper``; image size and batch are the planner's.

What holds for all: an epoch has as many batches as there are images to fill them, drawn at random;
augmentation is drawn anew for each sample; weights are in float32; the epoch whose moving average
of validation Dice is highest is the result.
"""

from __future__ import annotations

from collections.abc import Mapping

from nnmedseg.trainers.recipes import Recipe

_COMMON = Recipe(
    gradient_clipping=None,
    oversample_foreground=0.0,
    precision="fp32",
    iterations=None,
    selection="best",
)

ROSPER = _COMMON.changed(
    {
        "optimizer": "adamw",
        "initial_lr": 1e-3,
        "weight_decay": 1e-2,
        "scheduler": "cosine",
        "scheduler_options": {"half_period": 50, "minimum": 1e-5},
        "loss": "rosper",
        "augmentation": "rosper",
        "epochs": 300,
    }
)

ASC = ROSPER.changed({"loss": "asc"})

CONDSEG_STAGE1 = _COMMON.changed(
    {
        "optimizer": "adam",
        "initial_lr": 1e-4,
        "weight_decay": 0.0,
        "scheduler": "plateau",
        "scheduler_options": {"factor": 0.1, "patience": 30, "threshold": 1e-4},
        "loss": "condseg_stage1",
        "augmentation": "condseg_stage1",
        "epochs": 300,
        "patience": 100,
    }
)

CONDSEG = CONDSEG_STAGE1.changed(
    {
        "encoder_lr": 1e-5,  # the paper's; the code's is equal to the rest
        "loss": "condseg",
        "augmentation": "condseg",
    }
)

HETEROMEDSEG = _COMMON.changed(
    {
        "optimizer": "adamw",
        "initial_lr": 6e-4,
        "weight_decay": 1e-2,
        "scheduler": "cosine",
        "loss": "heteromedseg",
        "augmentation": "heteromedseg_binary",
        "epochs": 200,
    }
)

HETEROMEDSEG_ISIC2018 = HETEROMEDSEG.changed(
    {"optimizer": "adam", "initial_lr": 5e-4, "weight_decay": 0.0}
)

# The authors' restarts come after 50, 150, 350, ... iterations and their last full cycle ends with
# epoch 273 of 300; here the same nine cycles are stretched so that the last ends with the training.
HETEROMEDSEG_SEVERAL_CLASSES = HETEROMEDSEG.changed(
    {
        "initial_lr": 1e-3,
        "scheduler": "cosine_restarts",
        "scheduler_options": {"cycles": 9, "minimum": 1e-6},
        "augmentation": "heteromedseg_synapse",
        "epochs": 274,
    }
)

PROMISE = _COMMON.changed(
    {
        "optimizer": "adam",
        "initial_lr": 1e-5,
        "weight_decay": 0.0,
        "scheduler": "constant",
        "loss": "promise",
        "augmentation": "promise",
        "epochs": 200,
    }
)

ALWAYS = ""
SEVERAL_CLASSES = "several_classes"
"""Key of a recipe for more than one foreground class; other keys are names of data sets."""

PaperRecipes = Mapping[str, Recipe]
"""A network's recipes: ``""`` is that for all data that no other key names."""

HETEROMEDSEG_RECIPES: PaperRecipes = {
    ALWAYS: HETEROMEDSEG,
    "ISIC2018": HETEROMEDSEG_ISIC2018,
    SEVERAL_CLASSES: HETEROMEDSEG_SEVERAL_CLASSES,
}
