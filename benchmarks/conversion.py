"""What a conversion costs beside its floor: decoding and encoding the same files in a bare loop.

Makes photographs of ISIC's size of the demo's, as JPEG and as PNG, with PNG masks, and
takes turns in fresh processes:

* floor: read, decode (Pillow), encode (libdeflate, as the conversion does) and write; one core
* ours: the conversion of ISIC2018 from its start to the finished data set, with all checks,
  hashes, signatures, duplicates and splits; one core, then two

It prints images per second and the ratios, medians over the turns. PNG images are taken over as
they are, while the floor encodes them.

    python benchmarks/conversion.py [--images 48] [--turns 5] [--output FILE]
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from report import Report

from nnmedseg.data.images import encode_png
from nnmedseg.dataset_conversion._raw_dataset import convert
from nnmedseg.dataset_conversion.registry import list_converters
from nnmedseg.paths import Folders

SIZE = (1022, 767)
QUALITY = 92
REQUIRED_ONE_CORE = 0.85
REQUIRED_TWO_CORES = 1.8
IMAGES = "ISIC2018_Task1-2_Training_Input"
MASKS = "ISIC2018_Task1_Training_GroundTruth"
COLUMNS = (
    "files",
    "floor, 1 core",
    "ours, 1 core",
    "ours, 2 cores",
    f"ours / floor (>= {REQUIRED_ONE_CORE})",
    "reached",
    f"2 cores / 1 (>= {REQUIRED_TWO_CORES})",
    "reached",
)


def make_download(folder: Path, ending: str, count: int) -> None:
    """Write details of the demo's photographs with elliptic masks, laid out as ISIC 2018."""
    demo = Path(str(files("nnmedseg") / "demo_data" / "ISIC2018"))
    photos = [Image.open(path).convert("RGB") for path in sorted(demo.rglob("*.jpg"))]
    random = np.random.default_rng(0)
    for name in (IMAGES, MASKS):
        (folder / name).mkdir(parents=True)
    for n in range(count):
        first, second = (_detail(photos[index], random) for index in random.choice(len(photos), 2))
        jpeg = io.BytesIO()
        Image.blend(first, second, random.uniform(0.2, 0.8)).save(jpeg, "JPEG", quality=QUALITY)
        content = jpeg.getvalue()
        if ending == "png":
            content = encode_png(np.asarray(Image.open(jpeg)))
        (folder / IMAGES / f"ISIC_{n:07d}.{ending}").write_bytes(content)
        _ellipse(random).save(folder / MASKS / f"ISIC_{n:07d}_segmentation.png")


def _detail(photo: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return a random part of a photograph at full size, so that no two are copies."""
    share = random.uniform(0.4, 0.9)
    left, top = random.uniform(0, 1 - share, 2) * photo.size
    box = (left, top, left + share * photo.width, top + share * photo.height)
    return photo.resize(SIZE, Image.Resampling.BICUBIC, box)


def _ellipse(random: np.random.Generator) -> Image.Image:
    mask = Image.new("L", SIZE)
    centre = random.uniform(0.3, 0.7, 2) * SIZE
    radius = random.uniform(0.1, 0.3, 2) * SIZE[1]
    ImageDraw.Draw(mask).ellipse((*(centre - radius), *(centre + radius)), fill=255)
    return mask


def floor(source: Path, target: Path) -> float:
    """Decode and encode all files in a bare loop; return the seconds."""
    target.mkdir(parents=True)
    start = time.perf_counter()
    for path in sorted((source / IMAGES).iterdir()):
        _through(path, target / f"{path.stem}_0000.png")
        mask = source / MASKS / f"{path.stem}_segmentation.png"
        _through(mask, target / f"{path.stem}.png", lambda values: values // 255)
    return time.perf_counter() - start


def _through(
    path: Path, target: Path, change: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> None:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        target.write_bytes(encode_png(change(np.asarray(image))))


def ours(source: Path, target: Path, cores: int) -> float:
    """Convert the files; return the seconds."""
    folders = Folders(*(target / name for name in ("raw", "preprocessed", "results")))
    folders.raw.mkdir(parents=True)
    list_converters()  # imports them, as the floor's libraries are imported
    start = time.perf_counter()
    convert("ISIC2018", source, folders=folders, num_processes=cores)
    return time.perf_counter() - start


def take(source: Path, cores: int, *, bare: bool = False) -> float:
    """Take one time in a fresh process that may use ``cores`` cores; return the seconds."""
    command = [sys.executable, __file__, "--take", str(source), str(cores), str(int(bare))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _take_here(source: Path, cores: int, *, bare: bool) -> float:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    target = Path(tempfile.mkdtemp(dir=source.parent))
    try:
        return floor(source, target / "floor") if bare else ours(source, target, cores)
    finally:
        shutil.rmtree(target)


def measure(source: Path, turns: int, images: int) -> list[str]:
    """Take turns between the floor and ours; return the cells of a row, with medians."""
    times = []
    for _ in range(turns):
        times.append((take(source, 1, bare=True), take(source, 1), take(source, 2)))
    rates = [f"{images / statistics.median(taken):.1f}" for taken in zip(*times, strict=True)]
    one_core = statistics.median(bare / one for bare, one, _ in times)
    two_cores = statistics.median(one / two for _, one, two in times)
    reached = [
        "yes" if ratio >= required else "NO"
        for ratio, required in ((one_core, REQUIRED_ONE_CORE), (two_cores, REQUIRED_TWO_CORES))
    ]
    return [*rates, f"{one_core:.2f}", reached[0], f"{two_cores:.2f}", reached[1]]


def main() -> None:
    """Print the images per second of the floor and of the conversion, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--output", type=Path, help="Markdown file to keep the table in")
    parser.add_argument("--take", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take:
        source, cores, bare = options.take
        print(_take_here(Path(source), int(cores), bare=bool(int(bare))))
        return
    report = Report("Conversion beside decoding and encoding the same files", options.output)
    report.table(COLUMNS, about=[f"{options.images} images of {SIZE[0]} x {SIZE[1]}, images/s"])
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("jpg", "png"):
            source = Path(folder) / ending
            make_download(source, ending, options.images)
            report.row([ending, *measure(source, options.turns, options.images)])


if __name__ == "__main__":
    main()
