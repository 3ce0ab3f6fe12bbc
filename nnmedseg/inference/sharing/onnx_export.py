"""A trained model as an ONNX file that was compared with the network it was made of."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from nnmedseg.errors import UserError
from nnmedseg.files import atomic_path
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.sharing.onnx_rules import divisors_of, rules_of
from nnmedseg.inference.whole_images import is_fully_convolutional
from nnmedseg.nnunet import captured_output

logger = logging.getLogger(__name__)

RULES = "nnmedseg"
"""The key of the metadata that hold what `rules_of` returns."""

RUNNER, POSTPROCESSING = "onnx_runner.py", "onnx_postprocessing.py"
TOLERANCE = 1e-3
"""Largest difference of logits from PyTorch's, in shares of the largest logit, or of 1."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_ERRORS_ONLY = 3


class MeanOfFolds(nn.Module):
    """The mean of the logits of several networks."""

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(B, K, *patch)`` of ``(B, C, *patch)``."""
        return torch.stack([network(image) for network in self.networks]).mean(0)


def export_onnx(
    model: str | Path,
    target: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
) -> float:
    """Write a model as one ONNX file, and beside it the runner that segments images with it.

    The graph takes ``image`` ``(B, C, *patch)`` and returns ``logits`` ``(B, K, *patch)``, the mean
    over the folds. Batch, height and width may vary where the network is one of nnU-Net's; others
    are laid out for one tile. The metadata hold the rest, see `rules_of`; post-processing that the
    model has learnt is done by a second script. Weights of more than 2 GB, which the format cannot
    hold, come to one file ``.onnx.data`` beside it.

    Args:
        model: The model folder.
        target: The file to write.
        folds: Folds to average (default: all that are trained).
        checkpoint: ``"final"`` or ``"best"``.

    Returns:
        The largest difference of logits from PyTorch's that was found on random images.

    Raises:
        UserError: A package is missing, the model cannot be exported, or the file computes
            something else than the network.
    """
    _check_packages()
    target = Path(target)
    predictor = MedSegPredictor.from_folder(model, folds, checkpoint=checkpoint)
    rules = rules_of(predictor)
    networks = predictor.networks
    network = networks[0] if len(networks) == 1 else MeanOfFolds(networks).eval()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".exporting-") as scratch:
        written = Path(scratch) / target.name
        shapes = _save(network, predictor, rules, written)
        difference = _compare(network, written, shapes)
        for file in sorted(Path(scratch).iterdir(), reverse=True):  # the weights first
            file.replace(target.parent / file.name)
    scripts = [RUNNER] if rules["postprocessing"] is None else [RUNNER, POSTPROCESSING]
    for script in scripts:
        with atomic_path(target.parent / script) as temporary:
            shutil.copyfile(Path(__file__).with_name(script), temporary)
    return difference


def _check_packages() -> None:
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(
            f"exporting to ONNX needs {', '.join(missing)}",
            mend="run: pip install 'nnmedseg[onnx]'",
        )


def _save(
    network: nn.Module, predictor: MedSegPredictor, rules: dict[str, Any], path: Path
) -> list[tuple[int, ...]]:
    """Write the file, and return shapes of images to compare it on."""
    one = (1, predictor.channels, *rules["patch_size"])
    free: tuple[dict[int, Any], ...] | None = None
    given, shapes = one, [one]
    if is_fully_convolutional(predictor.network):
        given = (2, *one[1:])
        divisors = divisors_of(predictor)
        free = (
            {
                0: Dim("batch", min=1),
                **{n: by * Dim(f"side{n}", min=1) for n, by in enumerate(divisors, start=2)},
            },
        )
        larger = (n + by for n, by in zip(one[2:], divisors, strict=True))
        shapes = [one, (3, *one[1:]), (1, one[1], *larger)]
    with torch.no_grad(), warnings.catch_warnings(), captured_output(logger):
        warnings.simplefilter("ignore")  # about versions of operators and PyTorch's own code
        try:
            program = torch.onnx.export(
                network,
                (torch.zeros(given),),
                dynamo=True,
                dynamic_shapes=free,
                input_names=["image"],
                output_names=["logits"],
                verbose=False,
                optimize=False,  # it takes minutes for a scan; ONNX Runtime does it while loading
            )
        except Exception as error:  # of many kinds, by what the network is made of
            raise UserError(
                f"the network cannot be exported to ONNX: {_first_line(error)}",
                where=predictor.model,
                mend="hand the model over with --format zip, or export it with another version of "
                "PyTorch",
            ) from error
        if program is None:
            raise TypeError("torch.onnx.export returns a program where dynamo is set")
        program.model.metadata_props[RULES] = json.dumps(rules)
        program.save(str(path))
    return shapes


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]


def _compare(network: nn.Module, path: Path, shapes: Sequence[tuple[int, ...]]) -> float:
    """Return the largest difference of logits on random images.

    Raises:
        UserError: It is beyond the tolerance.
    """
    import onnxruntime  # noqa: PLC0415 - is no part of a usual installation

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for expected, found in _outputs(network, session, shapes):
        difference = float(np.abs(expected - found).max())
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if not difference <= allowed:
            raise UserError(
                f"the exported network computes something else: logits differ by {difference:.3g}, "
                f"and {allowed:.3g} is allowed",
                where=path.name,
                mend="report it with the versions of torch, onnxscript and onnxruntime",
            )
        largest = max(largest, difference)
    logger.info("Compared with PyTorch: logits differ by at most %.2g", largest)
    return largest


def _outputs(
    network: nn.Module, session: Any, shapes: Sequence[tuple[int, ...]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    for shape in shapes:
        image = random.standard_normal(math.prod(shape), np.float32).reshape(shape)
        with torch.inference_mode():
            expected = network(torch.from_numpy(image)).numpy()
        yield expected, session.run(None, {"image": image})[0]
