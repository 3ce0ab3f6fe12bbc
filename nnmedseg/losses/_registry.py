"""The losses by name; each paper's registers itself where it is defined.

A loss has the form ``corrected``, which is right, and where the authors' code has a fault the form
``released`` beside it, for those who must repeat a published number.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args

from torch import nn

from nnmedseg.errors import NotFoundError, UserError

Form = Literal["corrected", "released"]

_Loss = TypeVar("_Loss", bound=type[nn.Module])
_losses: dict[str, type[nn.Module]] = {}


def register_loss(name: str) -> Callable[[_Loss], _Loss]:
    """Register the decorated class under ``name``."""

    def register(loss: _Loss) -> _Loss:
        if name in _losses:
            raise ValueError(f"two losses are called {name!r}")
        _losses[name] = loss
        return loss

    return register


def list_losses() -> list[str]:
    """All names, sorted."""
    return sorted(_losses)


def loss_forms(name: str) -> tuple[Form, ...]:
    """The forms of a loss; those without a released fault have only ``corrected``."""
    has_fault = "form" in inspect.signature(_class(name)).parameters
    return get_args(Form) if has_fault else ("corrected",)


def is_binary(name: str) -> bool:
    """Tell whether a loss is defined for one foreground class only."""
    return bool(getattr(_class(name), "binary", False))


def create_loss(name: str, *, form: Form = "corrected", **options: Any) -> nn.Module:
    """Build a loss, called with the network's logits (one tensor or its list) and the target.

    Args:
        name: One of `list_losses`.
        form: ``corrected``, or ``released`` for what the authors' code computes.
        **options: Further options of the loss.

    Raises:
        NotFoundError: No loss has this name.
        UserError: The loss has no such form.
    """
    forms = loss_forms(name)
    if form not in forms:
        raise UserError(
            f"The loss {name!r} has no form {form!r}",
            where=f"form={form!r}",
            mend=f"use one of: {', '.join(forms)}",
        )
    if len(forms) > 1:
        options["form"] = form
    return _class(name)(**options)


def _class(name: str) -> type[nn.Module]:
    if name not in _losses:
        raise NotFoundError(
            f"There is no loss {name!r}", mend=f"use one of: {', '.join(list_losses())}"
        )
    return _losses[name]
