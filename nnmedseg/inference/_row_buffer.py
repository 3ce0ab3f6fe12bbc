"""Rows that come in slabs of any thickness."""

from __future__ import annotations

import torch


class RowBuffer:
    """Holds the rows of an image that are still needed.

    Attributes:
        start: Number of the first row that is held.
    """

    def __init__(self) -> None:
        self.start = 0
        self._rows: torch.Tensor | None = None
        self._is_lent = False

    @property
    def stop(self) -> int:
        """Number of the row that comes next."""
        return self.start + (0 if self._rows is None else self._rows.shape[1])

    @property
    def rows(self) -> torch.Tensor:
        """What is held, ``(K, rows, lines, columns)``."""
        if self._rows is None:
            raise ValueError("no rows are held")
        return self._rows

    def append(self, rows: torch.Tensor) -> None:
        """Add ``(K, n, lines, columns)`` behind those that are held; until `keep_from`, lent."""
        self._is_lent = self._rows is None
        self._rows = rows if self._rows is None else torch.cat([self._rows, rows], 1)

    def keep_from(self, row: int) -> None:
        """Forget the rows before this one, and hold the others in memory of their own."""
        row = min(max(row, self.start), self.stop)
        rows = self.rows[:, row - self.start :]
        if rows.shape[1] < self.rows.shape[1] or self._is_lent:
            self._rows = rows.clone() if rows.shape[1] else None
        self._is_lent = False
        self.start = row
