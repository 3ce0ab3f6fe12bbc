"""Reading files that others made: tensors only, never code."""

from __future__ import annotations

import pathlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnmedseg.errors import NotFoundError, WeightsError


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Read a checkpoint onto the CPU with a reader that runs no code from the file.

    Paths and argument namespaces, which training scripts leave in their checkpoints, are allowed.

    Args:
        path: A ``.pth``/``.pt`` file of PyTorch or a ``.safetensors`` file.

    Raises:
        NotFoundError: There is no such file.
        WeightsError: It is no checkpoint, or holds objects other than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError("there is no such file of weights", where=path, mend="check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(_harmless_classes()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"the file cannot be read as weights: {str(error).splitlines()[0]}",
            where=path,
            mend="download it again; a file that holds more than tensors is refused, because "
            "reading it would run code from it",
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"the file holds a {type(content).__name__} instead of named tensors",
            where=path,
            mend="save the network's state_dict()",
        )
    return content


def _harmless_classes() -> list[Any]:
    import argparse  # noqa: PLC0415 - a name to allow, not used otherwise

    paths = (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
    return [argparse.Namespace, *paths]


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError  # noqa: PLC0415 - comes with timm
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"the file cannot be read as weights: {error}", where=path, mend="download it again"
        ) from error
