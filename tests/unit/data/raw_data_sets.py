"""Small whole data sets in nnU-Net's raw format, written by libraries that are not under test."""

from __future__ import annotations

import io
import json
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from PIL import Image
from scipy.ndimage import gaussian_filter

SIZE = (48, 40)
VOLUME_SIZE = (6, 16, 14)
TRAINING = ("case_0", "case_1", "case_2", "case_3", "case_4")


def change_json(path: Path, **changes: object) -> None:
    """Replace keys of a JSON file; ``None`` removes one."""
    content = json.loads(path.read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))


def encoded(kind: str, image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def save(values: np.ndarray, path: Path) -> None:
    Image.fromarray(values).save(path)


def picture(seed: int) -> np.ndarray:
    """Smooth random colours that no other seed resembles."""
    noise = np.random.default_rng(seed).normal(size=(*SIZE, 3))
    smooth = gaussian_filter(noise, (4, 4, 0))
    smooth -= smooth.min()
    return (smooth * (255 / smooth.max())).astype(np.uint8)


def label() -> np.ndarray:
    values = np.zeros(SIZE, np.uint8)
    values[5:20, 5:15] = 1
    values[25:40, 20:30] = 2
    return values


def write_description(folder: Path, ending: str, channels: list[str], training: int) -> None:
    description = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, "organ": 1, "tumour": 2},
        "numTraining": training,
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def make_folders(folder: Path) -> Path:
    for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True)
    return folder


def natural_images(folder: Path, ending: str = ".png") -> Path:
    """RGB images and labels, two of the images for testing, with folds and conversion.json."""
    make_folders(folder)
    cases = [(case, "Tr") for case in TRAINING] + [("test_0", "Ts"), ("test_1", "Ts")]
    for seed, (case, part) in enumerate(cases):
        Image.fromarray(picture(seed)).save(folder / f"images{part}" / f"{case}_0000{ending}")
        Image.fromarray(label()).save(folder / f"labels{part}" / f"{case}{ending}")
    write_description(folder, ending, ["R", "G", "B"], len(TRAINING))
    folds = [
        {"train": [other for other in TRAINING if other != case], "val": [case]}
        for case in TRAINING
    ]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    records = [
        {"id": case, "part": {"Tr": "train", "Ts": "test"}[part], "images": [], "masks": []}
        for case, part in cases
    ]
    (folder / "conversion.json").write_text(json.dumps({"cases": records}))
    return folder


def volume(seed: int) -> np.ndarray:
    """(Z, Y, X) float32."""
    noise = np.random.default_rng(seed).normal(size=VOLUME_SIZE)
    return gaussian_filter(noise, 1).astype(np.float32)


def volume_label() -> np.ndarray:
    values = np.zeros(VOLUME_SIZE, np.uint8)
    values[1:3, 2:6, 2:6] = 1
    values[3:5, 8:12, 6:10] = 2
    return values


def write_volume(
    values: np.ndarray,
    path: Path,
    spacing: tuple[float, ...] = (0.7, 0.8, 2.5),
    origin: tuple[float, ...] = (-3.0, 4.0, 5.0),
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> None:
    image = SimpleITK.GetImageFromArray(values)
    if values.ndim == 3:
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction)
    SimpleITK.WriteImage(image, str(path), True)


def write_nifti(values: np.ndarray, path: Path) -> None:
    """Write with nibabel, which keeps what SimpleITK would not; (X, Y, Z) and further."""
    affine = np.diag([-0.7, -0.8, 2.5, 1.0])
    affine[:3, 3] = 3, -4, 5
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def volumes(folder: Path, ending: str = ".nii.gz") -> Path:
    """Volumes of two channels."""
    make_folders(folder)
    for seed, case in enumerate(TRAINING):
        for channel in range(2):
            path = folder / "imagesTr" / f"{case}_{channel:04d}{ending}"
            write_volume(volume(10 * channel + seed), path)
        write_volume(volume_label(), folder / "labelsTr" / f"{case}{ending}")
    write_description(folder, ending, ["T1", "T2"], len(TRAINING))
    return folder
