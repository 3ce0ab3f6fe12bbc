"""Activation checkpointing: a network's blocks are computed again in the backward pass.

Only a block's inputs are then kept from its forward pass, which takes less memory and about a third
more time (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from nnmedseg.ops._precision import autocast_switched

LARGEST_BLOCK = 16
"""Layers in a block, at most: more make the memory of a block that is computed again the peak,
fewer keep more inputs of blocks."""


def checkpoint_blocks(network: nn.Module) -> None:
    """Let the blocks of a network be computed again in the backward pass, in training mode.

    The network keeps its parameters under their names, and gives the same gradients up to rounding
    and the same running statistics of its norms. In evaluation nothing changes.
    """
    for block in blocks(network):
        block.forward = partial(_run, block, block.forward)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the largest modules with at most 16 layers, but at least two, that are trained."""
    found = []
    for child in network.children():
        layers = sum(not any(module.children()) for module in child.modules())
        if layers > LARGEST_BLOCK or isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            found += blocks(child)
        elif layers > 1 and any(x.requires_grad for x in child.parameters()):
            found.append(child)
    return found


def _run(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    casts = torch.is_autocast_enabled("cuda")

    def contexts() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
        return nullcontext(), _again(block, casts=casts)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _again(block: nn.Module, *, casts: bool) -> Iterator[None]:
    """Compute a block a second time: without a second update of running statistics.

    PyTorch restores autocast for the tensors' own device; ``meta`` has none, so it is done here.
    """
    norms = [x for x in block.modules() if isinstance(x, _NormBase) and x.track_running_stats]
    settings = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        with autocast_switched(enabled=casts):
            yield
    finally:
        for norm, (momentum, count) in zip(norms, settings, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
