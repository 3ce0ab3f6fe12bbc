"""The papers' losses, by name and form: ``create_loss("condseg", form="released")``.

A further paper is one file that registers its loss, and one line here that imports it.
"""

from nnmedseg.losses import asc, condseg, heteromedseg, pooled, promise, rosper
from nnmedseg.losses._registry import (
    Form,
    create_loss,
    is_binary,
    list_losses,
    loss_forms,
    register_loss,
)

__all__ = [
    "Form",
    "asc",
    "condseg",
    "create_loss",
    "heteromedseg",
    "is_binary",
    "list_losses",
    "loss_forms",
    "pooled",
    "promise",
    "register_loss",
    "rosper",
]
