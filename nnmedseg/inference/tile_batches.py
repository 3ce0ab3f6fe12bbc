"""How many tiles a network is given at once, and what happens where memory ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from nnmedseg.inference.side_by_side import SideBySide

logger = logging.getLogger(__name__)

MOST_TILES = 64
WORTHWHILE = 1.05
"""How much faster tiles have to be in a batch of twice the size."""

TILES_OF_A_WORKER = 4
"""How many tiles each worker gets, so that at the end few wait for the last one."""

_Job = tuple[Tensor, tuple[int, ...]]
"""A tile and the axes that it is mirrored along."""


class TileBatches:
    """Runs networks on tiles and their mirrored copies, several at once where that is faster.

    On a CPU each tile goes alone: a batch of 12 took twice the time of 12 tiles. Tiles of a network
    that many threads do not make much faster go side by side there. On an accelerator the first
    tiles tell: batches grow while a tile takes less time in them.

    Attributes:
        device: Where networks run now.
        size: Tiles and copies at once.

    Args:
        device: Where networks run. When its memory does not suffice, batches are halved; when it
            does not suffice for one tile, the CPU takes over.
        side_by_side: Threads for the tiles on a CPU.
    """

    def __init__(self, device: torch.device, side_by_side: SideBySide | None = None):
        self.device = device
        self.size = 1
        self._side_by_side = side_by_side
        self._growing = device.type != "cpu"
        self._pace = 0.0

    @property
    def worthwhile(self) -> int:
        """How many tiles and copies to ask for together, so that hardly any core is left idle."""
        if self._side_by_side is None:
            return self.size
        return TILES_OF_A_WORKER * self._side_by_side.workers

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
        jobs = [(tile, axes) for tile in tiles for axes in flips]
        logits: Tensor | None = None
        probabilities: Tensor | None = None
        outputs = self._outputs(network, jobs)
        for done, ((_, axes), output) in enumerate(zip(jobs, outputs, strict=True), start=1):
            copy = output[None].flip(axes)
            said = None if activation is None else activation(copy[0])
            logits = copy if logits is None else logits.add_(copy)
            if said is not None:
                probabilities = said if probabilities is None else probabilities.add_(said)
            if done % len(flips) == 0:
                yield (
                    logits[0].div_(len(flips)),
                    None if probabilities is None else probabilities.div_(len(flips)),
                )
                logits = probabilities = None

    def _outputs(self, network: nn.Module, jobs: Sequence[_Job]) -> Iterator[Tensor]:
        """Yield the logits ``(K, *patch)`` of each mirrored copy of a tile."""
        beside = self._side_by_side
        if beside is not None and len(jobs) >= beside.workers:
            yield from beside.map(partial(_logits, network), jobs)
            return
        done = 0
        while done < len(jobs):
            chosen = jobs[done : done + self.size]
            outputs = self._run(network, torch.cat([tile.flip(axes) for tile, axes in chosen]))
            yield from outputs
            done += len(outputs)

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


@torch.inference_mode()
def _logits(network: nn.Module, job: _Job) -> Tensor:
    tile, axes = job
    logits: Tensor = network(tile.flip(axes))[0]
    return logits
