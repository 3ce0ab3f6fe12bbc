"""Networks for inference, whose convolutions do what was linear after them.

Two rules make the fused copy of a network:

- In an `nn.Sequential`, a batch norm right after a convolution is folded into it, and a ReLU right
  after a convolution overwrites that convolution's output.
- A `Fusable` module says itself what takes its place.

Nothing else is touched: of modules that lie side by side as attributes only the forward method of
their parent knows which feeds which.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from nnmedseg.networks.layers.depthwise import DepthwiseConv2d

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, DepthwiseConv2d)
"""These types and no subclasses, which may do something else with their weights."""


class Fusable(ABC):
    """A module that has an equal, faster form for inference."""

    @abstractmethod
    def fused(self) -> nn.Module:
        """Return what takes the module's place; it may be the module itself, changed.

        Called on a copy in evaluation mode, which it may use up, and whose children are fused, so
        that they may be of other types than in the constructor.
        """


@torch.no_grad()
def fused_copy(module: nn.Module) -> Any:
    """Return a fused copy in evaluation mode, whose parameters take no gradient.

    Its state dict has other entries, the same ones for all modules built alike.
    """
    fused = _fuse(copy.deepcopy(module).eval(), {})
    return fused.eval().requires_grad_(False)  # new modules among the old ones


def folded(modules: Iterable[nn.Module]) -> nn.Module:
    """Return modules that run one after the other as one, with the first of the two rules."""
    before: list[nn.Module] = list(modules)
    after: list[nn.Module] = []
    for module in before:
        last = after[-1] if after else None
        if last is not None and can_fold(last, module):
            after[-1] = fold(last, module)
        elif type(last) in _CONVOLUTIONS and type(module) is nn.ReLU:
            after.append(nn.ReLU(inplace=True))
        else:
            after.append(module)
    return after[0] if len(after) == 1 else nn.Sequential(*after)


def fold(conv: Any, norm: Any) -> nn.Module:
    """Return a copy of a convolution with the batch norm of its output folded into it."""
    return fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))


def fold_attributes(module: nn.Module, conv: str, norm: str) -> None:
    """Fold one attribute of a module, a batch norm, into another, whose output it normalises."""
    setattr(module, conv, fold(getattr(module, conv), getattr(module, norm)))
    setattr(module, norm, nn.Identity())


def can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether a convolution and what comes after it can become one convolution."""
    if type(conv) not in _CONVOLUTIONS or type(norm) is not nn.BatchNorm2d:
        return False
    grouped = isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1
    return norm.track_running_stats and not grouped


def _fuse(module: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """Fuse a module from its innermost children outwards; ``done`` is for shared modules."""
    if module not in done:
        for name, child in module._modules.items():
            if child is not None:
                setattr(module, name, _fuse(child, done))
        done[module] = _replacement(module)
    return done[module]


def _replacement(module: nn.Module) -> nn.Module:
    if isinstance(module, Fusable):
        return module.fused()
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        return folded(module)
    return module
