"""The bytes of tensors that are alive at each moment, for any batch size, from one run."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BATCH = 1009
"""Images in a simulated batch: a prime, so that only a tensor with a row for each image has a
number of bytes that it divides."""

PROBED_BATCHES = (2, 8, 32)
"""For which the fullest moment is looked for; for others one of these is taken as the fullest."""


class Moment(NamedTuple):
    """What is alive at a moment: bytes whatever the batch is, and bytes for each of its images."""

    fixed: int
    per_sample: int

    def total(self, batch_size: int) -> int:
        """Return the bytes for a batch."""
        return self.fixed + batch_size * self.per_sample

    def plus(self, other: Moment) -> Moment:
        """Return what is alive if ``other`` is so too."""
        return Moment(self.fixed + other.fixed, self.per_sample + other.per_sample)

    def minus(self, other: Moment) -> Moment:
        """Return what is alive without ``other``."""
        return Moment(self.fixed - other.fixed, self.per_sample - other.per_sample)


class LiveMemory(TorchDispatchMode):
    """Counts each storage from the operation that makes it until it is freed.

    Tensors that are there already are not counted unless they are given to `add`.

    Args:
        batch: Images in the batch of this run; a storage of a multiple of it is one that grows with
            the batch.
        workspaces: Bytes that an operation takes while it runs, from its arguments, by its name.
    """

    def __init__(
        self, batch: int = BATCH, workspaces: Mapping[str, Callable[..., int]] | None = None
    ):
        super().__init__()
        self.live = Moment(0, 0)
        self.peaks = dict.fromkeys(PROBED_BATCHES, Moment(0, 0))
        self._batch = batch
        self._workspaces = workspaces or {}
        self._counted: set[int] = set()

    def add(self, tensors: Iterable[Any]) -> None:
        """Count the storages of tensors as long as they live."""
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata  # tensors without values have no addresses
            if key not in self._counted:
                self._counted.add(key)
                size = self._moment(storage.nbytes())
                self.live = self.live.plus(size)
                weakref.finalize(storage, self._remove, key, size)

    def add_from_the_start(self, tensors: Iterable[Any]) -> None:
        """Count tensors, made outside of this mode, as if they had been there at all moments."""
        before = self.live
        self.add(tensors)
        added = self.live.minus(before)
        self.peaks = {batch: peak.plus(added) for batch, peak in self.peaks.items()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        self.add(tree_leaves(result))
        workspace = self._workspaces.get(func._schema.name)
        extra = Moment(0, 0) if workspace is None else self._moment(workspace(*args))
        self._note(extra)
        return result

    def _note(self, extra: Moment) -> None:
        now = self.live.plus(extra)
        for batch, peak in self.peaks.items():
            if now.total(batch) > peak.total(batch):
                self.peaks[batch] = now

    def _moment(self, size: int) -> Moment:
        samples, rest = divmod(size, self._batch)
        return Moment(size, 0) if rest else Moment(0, samples)

    def _remove(self, key: int, size: Moment) -> None:
        self._counted.discard(key)
        self.live = self.live.minus(size)
