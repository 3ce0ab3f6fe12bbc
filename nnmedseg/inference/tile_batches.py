"""How many tiles a network is given at once, and what happens where memory ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

MOST_TILES = 64
WORTHWHILE = 1.05
"""How much faster tiles have to be in a batch of twice the size."""


class TileBatches:
    """Runs networks on tiles and their mirrored copies, several at once where that is faster.

    On a CPU each tile goes alone: a batch of 12 took twice the time of 12 tiles. On an accelerator
    the first tiles tell: batches grow while a tile takes less time in them.

    Attributes:
        device: Where networks run now.
        size: Tiles and copies at once.

    Args:
        device: Where networks run. When its memory does not suffice, batches are halved; when it
            does not suffice for one tile, the CPU takes over.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.size = 1
        self._growing = device.type != "cpu"
        self._pace = 0.0

    def predict(
        self,
        network: nn.Module,
        tiles: Sequence[Tensor],
        flips: Sequence[tuple[int, ...]],
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield for each tile its logits, averaged over its mirrored copies.

        Args:
            network: Takes ``(B, C, *patch)`` and returns ``(B, K, *patch)``.
            tiles: Each ``(1, C, *patch)``.
            flips: Axes that each copy is mirrored along, see `mirrored_axes`.
            activation: What makes probabilities of the logits ``(K, *patch)`` of one copy; their
                mean is yielded too.
        """
        jobs = [(number, axes) for number in range(len(tiles)) for axes in flips]
        logits: Tensor | None = None
        probabilities: Tensor | None = None
        done = 0
        while done < len(jobs):
            chosen = jobs[done : done + self.size]
            batch = torch.cat([tiles[number].flip(axes) for number, axes in chosen])
            outputs = self._run(network, batch)
            for axes, output in zip((axes for _, axes in chosen), outputs, strict=False):
                copy = output[None].flip(axes)
                said = None if activation is None else activation(copy[0])
                logits = copy if logits is None else logits.add_(copy)
                if said is not None:
                    probabilities = said if probabilities is None else probabilities.add_(said)
                done += 1
                if done % len(flips) == 0:
                    yield (
                        logits[0].div_(len(flips)),
                        None if probabilities is None else probabilities.div_(len(flips)),
                    )
                    logits = probabilities = None

    def _run(self, network: nn.Module, batch: Tensor) -> Tensor:
        """Return the logits of the whole batch, or of as much of it as memory suffices for."""
        while True:
            try:
                return self._measured(network, batch[: self.size])
            except torch.OutOfMemoryError:
                self._growing = False
                if self.size == 1 and self.device.type == "cpu":
                    raise
            torch.cuda.empty_cache()
            if self.size > 1:
                self.size //= 2
                logger.warning("Out of memory: going on with %d tile(s) at once", self.size)
            else:
                logger.warning(
                    "The memory of %s does not suffice for one tile: going on on the CPU, which "
                    "takes longer",
                    self.device,
                )
                self.device = torch.device("cpu")

    def _measured(self, network: nn.Module, batch: Tensor) -> Tensor:
        start = time.monotonic()
        network.to(self.device)
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            logits = network(batch.to(self.device)).cpu()
        if self._growing and len(batch) == self.size:
            self._grow(len(batch) / (time.monotonic() - start))
        return logits

    def _grow(self, pace: float) -> None:
        """Try twice as many tiles the next time, or go back if they were not worth it."""
        if self._pace == 0.0 and self.size == 1:
            self._pace = -1.0  # the first tile of all pays for what is set up once
        elif pace > self._pace * WORTHWHILE and self.size < MOST_TILES:
            self._pace = pace
            self.size *= 2
        else:
            self.size = max(self.size // 2, 1)
            self._growing = False
