"""Small stand-ins for the releases of 2D data sets: official layouts, encodings and traps.

The files are written by Pillow and tifffile; what a conversion must make of them is known from the
arrays that they were made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

CASES = 6
HEIGHT, WIDTH = 40, 48


@dataclass(frozen=True)
class Expected:
    """What a case must become, and its files.

    Attributes:
        image: uint8, (H, W, 3).
        mask: bool, (H, W).
        files: The image, then the masks.
    """

    image: np.ndarray
    mask: np.ndarray
    files: tuple[Path, ...]
    part: str = "train"
    group: str | None = None
    subset: str | None = None


Cases = dict[str, Expected]


def picture(seed: int) -> np.ndarray:
    """Smooth random colours that no other seed resembles."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3))
    smooth = gaussian_filter(noise, (4, 4, 0))
    smooth -= smooth.min()
    return (smooth * (255 / smooth.max())).astype(np.uint8)


def blob(seed: int) -> np.ndarray:
    """A rectangle whose place and size depend on the seed."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    top, left = seed * 3 % 17, seed * 5 % 19
    mask[top : top + 9 + seed % 7, left : left + 11] = True
    return mask


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    """Write by Pillow, booleans with one bit a pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def save_jpeg(path: Path, image: np.ndarray) -> np.ndarray:
    """Write a JPEG and return what another decoder than Pillow reads in it."""
    save(path, image, quality=90)
    return np.asarray(imagecodecs.jpeg_decode(path.read_bytes()))


def save_tiff(path: Path, values: np.ndarray) -> Path:
    """Write a TIFF as CVC-ClinicDB has them: colours under the tag of grey, 16 rows a strip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    tifffile.imwrite(path, values, photometric=photometric, rowsperstrip=16)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["PhotometricInterpretation"].overwrite(1)
    return path


def grey(mask: np.ndarray) -> np.ndarray:
    """0 and 255."""
    return mask.astype(np.uint8) * np.uint8(255)


def _isic(
    folders: tuple[str, str], suffix: str, part: str, numbers: range
) -> Callable[[Path], Cases]:
    """One part of a challenge; the folder of images holds superpixels and a table too."""
    images, masks = folders

    def write(root: Path) -> Cases:
        cases: Cases = {}
        for number in numbers:
            name = f"ISIC_{number:07d}"
            file = root / images / f"{name}.jpg"
            image = save_jpeg(file, picture(number))
            mask = save(root / masks / f"{name}_{suffix}.png", grey(blob(number)))
            save(root / images / f"{name}_superpixels.png", picture(number + 500))
            cases[name] = Expected(image, blob(number), (file, mask), part)
        (root / images / f"{images}_metadata.csv").write_text("image_id,age\n")
        return cases

    return write


PARTS = (
    ("train", "Training", range(CASES)),
    ("validation", "Validation", range(30, 32)),
    ("test", "Test", range(40, 42)),
)


def isic2016(root: Path) -> Cases:
    cases: Cases = {}
    for part, kind, numbers in (PARTS[0], PARTS[2]):
        folder = f"ISBI2016_ISIC_Part1_{kind}_"
        folders = (f"{folder}Data", f"{folder}GroundTruth")
        cases |= _isic(folders, "Segmentation", part, numbers)(root)
    return cases


def isic2017(root: Path) -> Cases:
    cases: Cases = {}
    for part, kind, numbers in PARTS:
        folder = f"ISIC-2017_{kind}{'_v2' if part == 'test' else ''}_"
        folders = (f"{folder}Data", f"{folder}Part1_GroundTruth")
        cases |= _isic(folders, "segmentation", part, numbers)(root)
        (root / f"{folder}Part3_GroundTruth.csv").write_text("image_id,melanoma\n")
        features = root / f"{folder}Part2_GroundTruth"
        features.mkdir()
        (features / f"ISIC_{numbers[0]:07d}_features.json").write_text("{}")
    return cases


def isic2018(root: Path) -> Cases:
    cases: Cases = {}
    for part, kind, numbers in PARTS:
        folders = (f"ISIC2018_Task1-2_{kind}_Input", f"ISIC2018_Task1_{kind}_GroundTruth")
        cases |= _isic(folders, "segmentation", part, numbers)(root)
    attributes = root / "ISIC2018_Task2_Training_GroundTruth_v3"
    save(attributes / "ISIC_0000000_attribute_globules.png", grey(~blob(0)))
    return cases


def ph2(root: Path) -> Cases:
    cases: Cases = {}
    for number in (2, 3, 30, 204, 411, 437):
        name = f"IMD{number:03d}"
        folder = root / "PH2Dataset" / "PH2 Dataset images" / name
        image = save(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp", picture(number))
        stored = blob(number)
        if number == 2:
            stored = np.repeat(grey(stored)[..., None], 3, axis=2)
        mask = save(folder / f"{name}_lesion" / f"{name}_lesion.bmp", stored)
        if number != 30:
            save(folder / f"{name}_roi" / f"{name}_R1_Label4.bmp", ~blob(number))
        save(folder / f"{name}_lesion" / f"{name}_lesion.jpg", grey(~blob(number)))
        cases[name] = Expected(picture(number), blob(number), (image, mask))
    (root / "PH2Dataset" / "PH2_dataset.txt").write_text("|| Name || Histological Diagnosis ||")
    return cases


def kvasir(folder: str) -> Callable[[Path], Cases]:
    def write(root: Path) -> Cases:
        cases: Cases = {}
        for number in range(CASES + 2):
            name = f"cju{number}qkwl35piu"
            file = root / folder / "images" / f"{name}.jpg"
            image = save_jpeg(file, picture(number))
            mask = root / folder / "masks" / f"{name}.jpg"
            save(mask, np.repeat(grey(blob(number))[..., None], 3, axis=2), quality=60)
            part = "validation" if number >= CASES else "train"
            cases[name] = Expected(image, blob(number), (file, mask), part)
        (root / folder / "kavsir_bboxes.json").write_text("{}")
        names = list(cases)
        (root / folder / "train.txt").write_text("\n".join(names[:CASES]) + "\n")
        (root / folder / "val.txt").write_text("\n".join(names[CASES:]))
        return cases

    return write


def busi(root: Path) -> Cases:
    cases: Cases = {}
    for number, kind in enumerate(["benign"] * 4 + ["malignant"] * 3, start=1):
        folder = root / "Dataset_BUSI_with_GT" / kind
        name = f"{kind} ({number % 4 + 1})"
        image = save(folder / f"{name}.png", picture(number))
        masks = [save(folder / f"{name}_mask.png", blob(number))]
        union = blob(number)
        if number == 2:
            colours = np.repeat(grey(blob(5))[..., None], 4, axis=2)
            colours[..., 3] = 255
            masks.append(save(folder / f"{name}_mask_1.png", colours))
            masks.append(save(folder / f"{name}_mask_2.png", blob(6)))
            union = union | blob(5) | blob(6)
        cases[f"{kind}_{number % 4 + 1}"] = Expected(picture(number), union, (image, *masks))
    for number in (1, 2):
        folder = root / "Dataset_BUSI_with_GT" / "normal"
        save(folder / f"normal ({number}).png", picture(number + 50))
        save(folder / f"normal ({number})_mask.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return cases


def clinicdb(root: Path) -> Cases:
    cases: Cases = {}
    for number in range(1, CASES + 1):
        image = save_tiff(root / "CVC-ClinicDB" / "Original" / f"{number}.tif", picture(number))
        values = grey(blob(number))
        if number % 2:
            values[0, :4] = (3, 127, 128, 250)  # in between, as 138 masks of the release have it
        path = root / "CVC-ClinicDB" / "Ground Truth" / f"{number}.tif"
        mask = save_tiff(path, values)
        cases[str(number)] = Expected(picture(number), values >= 128, (image, mask))
    return cases


def colondb(root: Path) -> Cases:
    folder = root / "CVC-ColonDB" / "CVC-ColonDB"
    folder.mkdir(parents=True)
    cases: Cases = {}
    for number in range(1, CASES + 1):
        image = folder / f"{number}.{'tif' if number % 3 == 0 else 'tiff'}"
        mask = folder / f"p{number}.tiff"
        tifffile.imwrite(image, picture(number), photometric="rgb")
        tifffile.imwrite(mask, grey(blob(number)))
        tifffile.imwrite(folder / f"cp{number}.tiff", grey(~blob(number)))
        cases[str(number)] = Expected(picture(number), blob(number), (image, mask))
    return cases


def images_and_masks(folder: str, start: int = 1) -> Callable[[Path], Cases]:
    """The PNG form in which all polyp sets go round."""

    def write(root: Path) -> Cases:
        cases: Cases = {}
        for number in range(start, start + CASES):
            image = save(root / folder / "images" / f"{number}.png", picture(number))
            mask = save(root / folder / "masks" / f"{number}.png", grey(blob(number)))
            cases[str(number)] = Expected(picture(number), blob(number), (image, mask))
        return cases

    return write


def etis(root: Path) -> Cases:
    folder = root / "ETIS-LaribPolypDB"
    cases: Cases = {}
    for number in range(1, CASES + 1):
        image = save_tiff(folder / "ETIS-LaribPolypDB" / f"{number}.tif", picture(number))
        mask = save_tiff(folder / "Ground Truth" / f"p{number}.tif", grey(blob(number)))
        cases[str(number)] = Expected(picture(number), blob(number), (image, mask))
    return cases


def glas(root: Path) -> Cases:
    folder = root / "Warwick QU Dataset (Released 2016_07_08)"
    cases: Cases = {}
    rows = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for name, patient in (
        *((f"train_{number}", number // 2) for number in range(1, 13)),
        ("testA_1", 3),
        ("testB_1", 20),
    ):
        seed = len(cases) + 1
        image = save(folder / f"{name}.bmp", picture(seed))
        glands = blob(seed).astype(np.uint8)
        glands[30:33, :] = 2
        glands[35:38, :] = 130
        mask = save(folder / f"{name}_anno.bmp", glands)
        subset = name[:5] if name.startswith("test") else None
        part = "test" if subset else "train"
        cases[name] = Expected(
            picture(seed), glands > 0, (image, mask), part, f"patient_{patient}", subset
        )
        rows.append(f"{name},{patient}, benign, adenomatous")
    (folder / "Grade.csv").write_bytes("\r".join(rows).encode())
    return cases


def chase_db1(root: Path) -> Cases:
    cases: Cases = {}
    for child in range(1, 7):
        for eye in "LR":
            name = f"Image_{child:02d}{eye}"
            seed = 2 * child + (eye == "R")
            file = root / f"{name}.jpg"
            image = save_jpeg(file, picture(seed))
            mask = save(root / f"{name}_1stHO.png", blob(seed))
            save(root / f"{name}_2ndHO.png", ~blob(seed))
            cases[name] = Expected(image, blob(seed), (file, mask), group=f"child_{child:02d}")
    return cases


STAND_INS: dict[str, Callable[[Path], Cases]] = {
    "ISIC2018": isic2018,
    "ISIC2017": isic2017,
    "ISIC2016": isic2016,
    "PH2": ph2,
    "Kvasir-SEG": kvasir("Kvasir-SEG"),
    "Kvasir-Sessile": kvasir("sessile-main-Kvasir-SEG"),
    "BUSI": busi,
    "CVC-ClinicDB": clinicdb,
    "CVC-ColonDB": colondb,
    "CVC-300": images_and_masks("CVC-300"),
    "ETIS-LaribPolypDB": etis,
    "GlaS": glas,
    "CHASE_DB1": chase_db1,
}
"""What writes the stand-in of a data set into a folder, by the converter's name."""
