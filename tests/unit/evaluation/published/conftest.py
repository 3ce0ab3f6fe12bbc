"""The authors' own scores of small arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

_GOLDEN = Path(__file__).parents[3] / "data" / "golden"


@pytest.fixture
def golden() -> Callable[[str], dict[str, npt.NDArray]]:
    """Reads the arrays of a golden fixture by its name."""

    def load(name: str) -> dict[str, npt.NDArray]:
        with np.load(_GOLDEN / f"{name}.npz") as archive:
            return {key: archive[key] for key in archive.files}

    return load


@pytest.fixture
def assert_golden() -> Callable[..., None]:
    """Compares with an array of a fixture, within that fixture's tolerance; NaN equals NaN."""

    def check(actual: npt.ArrayLike, arrays: dict[str, npt.NDArray], key: str) -> None:
        meta = json.loads(str(arrays["meta"]))
        np.testing.assert_allclose(actual, arrays[key], rtol=meta["rtol"], atol=meta["atol"])

    return check
