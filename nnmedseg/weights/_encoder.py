"""The weights that a paper's training starts from: ImageNet backbones and SAM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nnmedseg.errors import NotFoundError, WeightsError
from nnmedseg.networks import SegmentationNetwork
from nnmedseg.weights._files import read_checkpoint
from nnmedseg.weights._importer import unwrapped


@dataclass(frozen=True)
class EncoderReport:
    """What became of a file of pretrained weights.

    Attributes:
        loaded: Our names of the entries that were loaded.
        ignored: The file's entries that the network has no use for.
    """

    loaded: list[str]
    ignored: list[str]


@dataclass(frozen=True)
class EncoderWeights:
    """Where a network's training starts.

    Args:
        network: The network's registered name.
        describe: Says for a built network which file is meant, for messages.
        load: Loads a state dict into a network; raises WeightsError naming the first entries that
            do not fit, and leaves the network as it was then.
        download: Fetches the official weights for a built network, as a state dict; raises OSError
            without a connection.
    """

    network: str
    describe: Callable[[SegmentationNetwork], str]
    load: Callable[[SegmentationNetwork, Mapping[str, Tensor]], EncoderReport]
    download: Callable[[SegmentationNetwork], Mapping[str, Any]]


_known: dict[str, EncoderWeights] = {}


def register_encoder_weights(weights: EncoderWeights) -> EncoderWeights:
    """Make `load_encoder_weights` know where a network starts."""
    _known[weights.network] = weights
    return weights


def starts_from_pretrained(name: str) -> bool:
    """Whether the paper of a network starts from pretrained weights."""
    return name in _known


def describe_encoder_weights(name: str, network: SegmentationNetwork) -> str:
    """Return which pretrained weights the paper of a network starts from, as a name or address."""
    return _known[name].describe(network)


def load_encoder_weights(
    name: str, network: SegmentationNetwork, file: str | Path | None = None
) -> EncoderReport:
    """Load the pretrained weights that the paper starts from.

    Args:
        name: The network's registered name.
        network: A network of that name; changed in place.
        file: A file with these weights; without one they are downloaded.

    Raises:
        NotFoundError: The paper starts from nothing, or there is no such file.
        WeightsError: The file does not fit, or there is neither a file nor a connection.
    """
    if name not in _known:
        raise NotFoundError(
            f"The network {name!r} starts from no pretrained weights",
            mend=f"those that do: {', '.join(sorted(_known))}",
        )
    weights = _known[name]
    if file is not None:
        return weights.load(network, unwrapped(read_checkpoint(file)))
    try:
        state = weights.download(network)
    except Exception as error:  # timm, Hugging Face and urllib have errors of many kinds
        raise WeightsError(
            f"The pretrained weights of {name!r} cannot be downloaded: {error}",
            where=weights.describe(network),
            mend="fetch that file on a machine with a connection and name it",
        ) from error
    return weights.load(network, unwrapped(state))
