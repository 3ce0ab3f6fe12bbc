"""Handing a trained model to others: `export` and `install`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnmedseg.inference.sharing.install import InstalledModel
    from nnmedseg.paths import Folders


def export(
    model: str | Path,
    output: str | Path,
    format: str,  # noqa: A002 - what the command calls it
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
) -> Path:
    """Write a trained model as one file.

    Args:
        model: Model folder ``Trainer__Plans__configuration``.
        output: File to write, or a folder for it.
        format: ``"onnx"``: the network, the mean of its folds, with what leads from an image to
            labels, and a script beside it that needs ONNX Runtime and NumPy alone; ``"zip"``: what
            prediction needs, for :func:`install`.
        folds: Folds to export (default: all that are trained).
        checkpoint: ``"final"`` or ``"best"``.

    Returns:
        The file.
    """
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.errors import UserError
    from nnmedseg.inference.sharing.archive import write_archive
    from nnmedseg.inference.sharing.onnx_export import export_onnx

    writers: dict[str, Callable[..., object]] = {"onnx": export_onnx, "zip": write_archive}
    if format not in writers:
        raise UserError(f"there is no format {format!r}", mend="choose onnx or zip")
    target = _target(Path(output), Path(model), f".{format}")
    writers[format](model, target, folds=folds, checkpoint=checkpoint)
    return target


def _target(output: Path, model: Path, ending: str) -> Path:
    return output if output.suffix == ending else output / f"{model.resolve().name}{ending}"


def install(
    archive: str | Path,
    *,
    output: str | Path | None = None,
    force: bool = False,
    folders: Folders | None = None,
) -> InstalledModel:
    """Check an archive that :func:`export` has written, and unpack it if all of it is in order.

    Args:
        archive: The ZIP file.
        output: Model folder to make (default: among the trained models).
        force: Replace the model folder if there is one.
        folders: Where data are kept, if there is no ``output``.

    Returns:
        Where the model is.
    """
    from nnmedseg import nnunet, paths

    nnunet.prepare()
    from nnmedseg.inference.sharing.install import install_model

    results = None if output is not None else paths.use(folders).results
    return install_model(archive, results=results, output=output, force=force)
