"""Fixtures of the networks' tests."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nnmedseg.networks import SegmentationNetwork, create_network

_GOLDEN = Path(__file__).parents[1] / "data" / "golden"
_SMALL_OPTIONS = Path(__file__).with_name("small_options.json")


@pytest.fixture(scope="session")
def build_small() -> Callable[..., SegmentationNetwork]:
    """`create_network` with the options of small_options.json, so that large networks are quick."""
    small = json.loads(_SMALL_OPTIONS.read_text())

    def build(name: str, channels: int, classes: int, **options: Any) -> SegmentationNetwork:
        return create_network(name, channels, classes, **{**small.get(name, {}), **options})

    return build


@pytest.fixture(scope="session")
def load_golden() -> Callable[[str], tuple[dict, dict, dict]]:
    """Reads a golden fixture by name: its meta, the authors' state dict, its arrays as tensors."""
    spec = importlib.util.spec_from_file_location("golden_fill", _GOLDEN / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def load(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
        meta, state, arrays = module.load(_GOLDEN / f"{name}.npz")
        return meta, state, {key: torch.from_numpy(array) for key, array in arrays.items()}

    return load


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The golden outputs hold on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
