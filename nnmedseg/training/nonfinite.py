"""Losses and gradients that are not numbers: when to skip, when to go back, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle

IN_A_ROW_TO_GO_BACK = 3
TO_STOP = 10


class Response(Enum):
    """What a batch without a finite loss or gradient asks for."""

    SKIP = "skip"
    GO_BACK = "go back"
    STOP = "stop"


class FaultCounter:
    """Counts the batches that had to be skipped.

    Attributes:
        since_good_epoch: How many since the last epoch without any.
    """

    def __init__(self) -> None:
        self.since_good_epoch = 0
        self._in_row = 0
        self._in_epoch = 0

    def fault(self) -> Response:
        """Count a batch that is skipped."""
        self._in_row += 1
        self._in_epoch += 1
        self.since_good_epoch += 1
        if self.since_good_epoch >= TO_STOP:
            return Response.STOP
        if self._in_row >= IN_A_ROW_TO_GO_BACK:
            self._in_row = 0
            return Response.GO_BACK
        return Response.SKIP

    def good_step(self) -> None:
        """Note a batch that was trained on."""
        self._in_row = 0

    def end_epoch(self) -> int:
        """Begin to count the next epoch; return how many batches this one has skipped."""
        skipped, self._in_epoch = self._in_epoch, 0
        if skipped == 0:
            self.since_good_epoch = 0
        return skipped


class NormStatistics:
    """The running statistics of a network's batch norms, to undo what a faulty batch did to them.

    A NaN in one batch would stay in them for ever, and show in evaluation only. The copy is made
    on the device and takes no time worth naming.
    """

    def __init__(self, network: nn.Module):
        norms = [module for module in network.modules() if isinstance(module, _NormBase)]
        kinds = ("running_mean", "running_var", "num_batches_tracked")  # the last are integers
        found = [[getattr(norm, kind) for norm in norms] for kind in kinds]
        originals = [[buffer for buffer in kind if buffer is not None] for kind in found]
        self._pairs = [
            (kind, [buffer.clone() for buffer in kind]) for kind in originals if len(kind) > 0
        ]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember the statistics as they are."""
        for originals, copies in self._pairs:
            torch._foreach_copy_(copies, originals)

    @torch.no_grad()
    def restore(self) -> None:
        """Set the statistics to what they were."""
        for originals, copies in self._pairs:
            torch._foreach_copy_(originals, copies)


def first_nonfinite(
    network: nn.Module, data: torch.Tensor, run: Callable[[], torch.Tensor]
) -> str | None:
    """Run a batch once more, and name the first place that is not finite.

    Args:
        network: Whose layers are watched.
        data: What goes in, ``(B, C, H, W)`` or with depth.
        run: Computes the loss of this batch with this network.

    Returns:
        For instance ``"the output of layer encoder.2.conv"``, or None if all is finite this time.
    """
    found = [] if _is_finite(data) else ["the images themselves"]
    found += [f"the weights {name}" for name, x in network.named_parameters() if not _is_finite(x)]
    with _watched(network, found):  # to the end, because other processes may take part
        loss = run()
        if not found and not _is_finite(loss):
            found.append("the loss, though the network's output is finite")
        loss.backward()
    return found[0] if found else None


@contextmanager
def _watched(network: nn.Module, found: list[str]) -> Iterator[None]:
    """Append each place where something that is not finite goes by, in order."""
    handles: list[RemovableHandle] = []

    def watch_gradient(tensor: torch.Tensor, place: str) -> None:
        if tensor.requires_grad:
            handles.append(tensor.register_hook(lambda grad: note(grad, place)))

    def note(tensor: torch.Tensor, place: str) -> None:
        if not _is_finite(tensor):
            found.append(place)

    def after_forward(name: str, outputs: Any) -> None:
        for output in _tensors_in(outputs):
            note(output, f"the output of layer {name}")
            watch_gradient(output, f"the gradient of the output of layer {name}")

    for name, module in network.named_modules():
        hook = _forward_hook(after_forward, name or type(network).__name__)
        handles.append(module.register_forward_hook(hook))
    for name, parameter in network.named_parameters():
        watch_gradient(parameter, f"the gradient of the weights {name}")
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward_hook(after_forward: Callable[[str, Any], None], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
        after_forward(name, outputs)

    return hook


def _tensors_in(outputs: Any) -> Iterator[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        for output in outputs.values():
            yield from _tensors_in(output)
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        for output in outputs:
            yield from _tensors_in(output)


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
