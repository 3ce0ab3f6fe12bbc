"""Fingerprint and preprocessing beside nnU-Net's own commands, and reading of what they leave.

Takes turns in fresh processes, on photographs (Kvasir-SEG and ISIC 2018 at their own resolution, as
nnU-Net plans them) and on volumes (the hippocampus of the Medical Segmentation Decathlon and a CT):

* nnU-Net: ``nnUNetv2_extract_fingerprint`` and ``nnUNetv2_preprocess``, from the start of the
  command to its end, with as many processes as ours has threads;
* ours: one process that does both, imports included.

Both preprocess by the plan that nnU-Net makes. It prints medians over the turns of the cases per
second and of the memory that all processes hold together at most, then the size of the files, how
far the arrays are from each other, and the time to read a training patch and its mask through the
data set class, with nnU-Net's own cropping, by the processor's clock.

    python benchmarks/preprocessing.py [--data DIR] [--turns 3] [--workers 2] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from process_tree import Usage, measure
from report import RATIO_COLUMNS, Report

from nnmedseg.cores import cpu_count

PLANS = "BenchmarkPlans"
CONFIGURATION = "benchmark"
OURS = "nnmedseg_benchmark"
PATCHES = ((256, 256), (512, 512))
CT_ORGANS = (1, 2, 3, 4, 5, 6, 7, 52)


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        number: Of the converted data set.
        name: After the number.
        folder: Below the samples.
        converter: Name and options for ``nnmedseg_convert``; none for the CT.
    """

    number: int
    name: str
    folder: str
    converter: tuple[str, ...] = ()

    @property
    def dataset(self) -> str:
        """Name of the converted data set."""
        return f"Dataset{self.number:03d}_{self.name}"


@dataclass(frozen=True)
class Kind:
    """Data sets that are preprocessed together, and what ours has to reach on them.

    Attributes:
        name: Of the kind.
        sources: The data sets.
        configuration: Of nnU-Net's plan.
        throughput: How many times more cases per second.
        memory: How many times less memory.
        disk: How many times smaller files.
        reading: How many times faster a patch is read; ``None`` where the store is nnU-Net's.
    """

    name: str
    sources: tuple[Source, ...]
    configuration: str
    throughput: float
    memory: float | None = None
    disk: float | None = None
    reading: float | None = None

    @property
    def datasets(self) -> list[str]:
        """Names of the converted data sets."""
        return [source.dataset for source in self.sources]

    @property
    def numbers(self) -> list[str]:
        """Of the converted data sets, for nnU-Net's commands."""
        return [str(source.number) for source in self.sources]

    def found_in(self, data: Path) -> Kind:
        """Return the same without data sets that are not there."""
        found = tuple(source for source in self.sources if (data / source.folder).is_dir())
        return replace(self, sources=found)


KINDS = (
    Kind(
        "photographs",
        (
            Source(2, "ISIC2018", "ISIC2018", ("ISIC2018",)),
            Source(6, "Kvasir-SEG", "Kvasir-SEG", ("Kvasir-SEG",)),
        ),
        "2d",
        throughput=20,
        memory=20,
        disk=2,
        reading=2,
    ),
    Kind(
        "volumes",
        (
            Source(40, "Hippocampus", "MSD_Hippocampus/Task04_Hippocampus", ("MSD", "-d", "40")),
            Source(41, "CT", "CT_abdomen_sample"),
        ),
        "3d_fullres",
        throughput=2,
    ),
)


@dataclass(frozen=True)
class Bench:
    """A workspace with raw data, and both preprocessings of them."""

    root: Path
    workers: int

    @property
    def raw(self) -> Path:
        """Raw data sets."""
        return self.root / "raw"

    def preprocessed(self, ours: bool) -> Path:
        """What is preprocessed by ours or by nnU-Net."""
        return self.root / ("ours" if ours else "nnunet")

    def environment(self, ours: bool) -> dict[str, str]:
        """Variables for commands."""
        return os.environ | {
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed(ours)),
            "nnUNet_results": str(self.root / "results"),
            "nnUNet_def_n_proc": str(self.workers),
            "nnUNet_n_proc_DA": str(self.workers),  # nnU-Net's planning fails where it is 0
        }

    def stored(self, dataset: str, kind: Kind, ours: bool) -> Path:
        """The folder of preprocessed cases."""
        folder = OURS if ours else f"nnUNetPlans_{kind.configuration}"
        return self.preprocessed(ours) / dataset / folder


def make_raw_data(data: Path, bench: Bench, kind: Kind) -> None:
    """Convert the samples, and write the CT with its organs numbered one after the other."""
    for source in kind.sources:
        folder = data / source.folder
        if not source.converter:
            _make_ct(folder, bench.raw / source.dataset)
            continue
        name, *options = source.converter
        command = [_script("nnmedseg_convert"), name, "-i", str(folder), *options]
        subprocess.run(
            [*command, "--workspace", str(bench.root)], check=True, capture_output=True, text=True
        )


def _make_ct(source: Path, target: Path) -> None:
    import nibabel  # noqa: PLC0415 - our measured process does not need it

    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True)
    cases = sorted(source.iterdir())
    for case in cases:
        shutil.copy(case / "ct.nii.gz", target / "imagesTr" / f"{case.name}_0000.nii.gz")
        mask = nibabel.nifti1.load(next(case.glob("seg*.nii.gz")))
        values = np.asarray(mask.dataobj)
        labels = np.zeros(values.shape, np.uint8)
        for label, organ in enumerate(CT_ORGANS, start=1):
            labels[values == organ] = label
        image = nibabel.nifti1.Nifti1Image(labels, mask.affine)
        nibabel.nifti1.save(image, target / "labelsTr" / f"{case.name}.nii.gz")
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{f"organ {n}": n for n in range(1, len(CT_ORGANS) + 1)}},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (target / "dataset.json").write_text(json.dumps(description))


def plan(bench: Bench, kind: Kind) -> None:
    """Let nnU-Net plan, and write its plan for ours, with our store for photographs."""
    environment = bench.environment(ours=False)
    options = ["-d", *kind.numbers]
    command = [_script("nnUNetv2_extract_fingerprint"), *options, "-np", str(bench.workers)]
    measure(command, environment)
    measure([_script("nnUNetv2_plan_experiment"), *options], environment)
    for dataset in kind.datasets:
        plans = json.loads((bench.preprocessed(False) / dataset / "nnUNetPlans.json").read_text())
        details = {"store": "uint8"} if kind.configuration == "2d" else {}
        configuration = {
            **plans["configurations"][kind.configuration],
            "data_identifier": OURS,
            "nnmedseg": details,
        }
        plans["configurations"] = {CONFIGURATION: configuration}
        target = bench.preprocessed(True) / dataset
        target.mkdir(parents=True)
        (target / f"{PLANS}.json").write_text(json.dumps(plans))


def run_nnunet(bench: Bench, kind: Kind) -> Usage:
    """Run nnU-Net's two commands."""
    options = ["-d", *kind.numbers, "-np", str(bench.workers)]
    environment = bench.environment(ours=False)
    first = measure([_script("nnUNetv2_extract_fingerprint"), *options, "--clean"], environment)
    command = [_script("nnUNetv2_preprocess"), *options, "-c", kind.configuration]
    return first.followed_by(measure(command, environment))


def run_ours(bench: Bench, kind: Kind) -> Usage:
    """Run ours in a fresh process, after deleting what an earlier turn has left."""
    for dataset in kind.datasets:
        for path in (bench.preprocessed(True) / dataset).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != f"{PLANS}.json":
                path.unlink()
    script = Path(__file__).with_name("preprocessing_pass.py")
    command = [sys.executable, str(script), str(bench.root), str(bench.workers), PLANS]
    return measure([*command, CONFIGURATION, *kind.datasets], bench.environment(ours=True))


def largest_difference(bench: Bench, kind: Kind) -> float:
    """Return how far an intensity is from nnU-Net's, of all cases.

    Raises:
        ValueError: A label differs, or the cases are not the same.
    """
    largest = 0.0
    for dataset in kind.datasets:
        ours, theirs = (_open(bench.stored(dataset, kind, own)) for own in (True, False))
        if ours.identifiers != theirs.identifiers:
            raise ValueError(f"{dataset}: the cases are not the same")
        for name in theirs.identifiers:
            (image, mask, *_), (expected, labels, *_) = ours[name], theirs[name]
            if not np.array_equal(mask[:], labels[:]):
                raise ValueError(f"{dataset}, {name}: the labels are not the same")
            largest = max(largest, float(np.abs(image[:] - expected[:]).max()))
    return largest


def _open(folder: Path) -> Any:
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class  # noqa: PLC0415

    from nnmedseg.nnunet.registration import register  # noqa: PLC0415

    register()
    return infer_dataset_class(str(folder))(str(folder))


def seconds_to_read(dataset: Any, patch: tuple[int, int], seed: int) -> float:
    """Return the mean time to read a patch with its mask from random places of all cases."""
    from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd  # noqa: PLC0415

    random = np.random.default_rng(seed)
    total = 0.0
    for name in dataset.identifiers:
        shape = dataset[name][0].shape[2:]
        corner = [
            int(random.integers(min(0, side - size), max(0, side - size) + 1))
            for side, size in zip(shape, patch, strict=True)
        ]
        box = [[0, 1], *([a, a + size] for a, size in zip(corner, patch, strict=True))]
        start = time.process_time()
        image, mask, _, properties = dataset.load_case(name)
        for pixels in properties["class_locations"].values():
            if len(pixels):
                pixels[len(pixels) // 2]
        crop_and_pad_nd(image, box, 0)
        crop_and_pad_nd(mask, box, -1, cast_cropped_to=np.int16)
        total += time.process_time() - start
    return total / len(dataset.identifiers)


def _script(name: str) -> str:
    """Return the command of that name that belongs to this Python."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"the command {name} is not installed")
    return found


def _size(folders: list[Path]) -> float:
    files = [path for folder in folders for path in folder.iterdir()]
    return sum(path.stat().st_size for path in files) / 2**20


def report_kind(report: Report, data: Path, bench: Bench, kind: Kind, turns: int) -> None:
    """Measure one kind of data, and print it line by line."""
    make_raw_data(data, bench, kind)
    plan(bench, kind)
    cases = sum(len(list((bench.raw / x / "labelsTr").iterdir())) for x in kind.datasets)
    form = f"{cases} {kind.name}"
    pairs = [(run_ours(bench, kind), run_nnunet(bench, kind)) for _ in range(turns)]

    def medians(of: Callable[[Usage], float]) -> tuple[float, float]:
        ours, theirs = (
            statistics.median(of(usage) for usage in each) for each in zip(*pairs, strict=True)
        )
        return ours, theirs

    rates = medians(lambda usage: cases / usage.seconds)
    report.ratio("fingerprint and preprocessing", form, rates, "cases/s", kind.throughput)
    if all(usage.peak is not None for pair in pairs for usage in pair):
        peaks = medians(lambda usage: (usage.peak or 0) / 2**20)
        report.ratio("peak memory of all processes", form, peaks, "MiB", kind.memory)
    ours, theirs = (
        _size([bench.stored(x, kind, own) for x in kind.datasets]) for own in (True, False)
    )
    report.ratio("preprocessed files", form, (ours, theirs), "MiB", kind.disk)
    if kind.reading is not None:
        for dataset in kind.datasets:
            _report_reading(report, bench, kind, dataset, turns)
    difference = largest_difference(bench, kind)
    report.notes([f"Labels are equal; intensities of {kind.name} differ by {difference:.2g}."])


def _report_reading(report: Report, bench: Bench, kind: Kind, dataset: str, turns: int) -> None:
    plans = json.loads((bench.preprocessed(True) / dataset / f"{PLANS}.json").read_text())
    planned = tuple(plans["configurations"][CONFIGURATION]["patch_size"])
    both = [_open(bench.stored(dataset, kind, own)) for own in (True, False)]
    for patch in dict.fromkeys((*PATCHES, planned)):
        times: list[list[float]] = [[], []]
        for turn in range(turns + 1):
            for own, stored in enumerate(both):
                times[own].append(1e3 * seconds_to_read(stored, patch, turn))
        ours, theirs = (statistics.median(each[1:]) for each in times)
        form = f"{dataset[11:]}, {patch[0]} x {patch[1]}"
        report.ratio("read a patch and its mask", form, (ours, theirs), "ms", kind.reading)


def main() -> None:
    """Print the tables, and which required figures are reached."""
    data = Path(__file__).parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=data, help="where the samples are")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--only", choices=[kind.name for kind in KINDS])
    parser.add_argument("--output", type=Path, help="Markdown file to keep the tables in")
    options = parser.parse_args()
    report = Report("Fingerprint and preprocessing beside nnU-Net", options.output)
    report.text(f"{options.workers} thread(s) or process(es); medians of {options.turns} turn(s).")
    report.table(RATIO_COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.workers)
        for kind in (kind.found_in(options.data) for kind in KINDS):
            if kind.sources and options.only in (None, kind.name):
                report_kind(report, options.data, bench, kind, options.turns)
    report.summary()


if __name__ == "__main__":
    main()
