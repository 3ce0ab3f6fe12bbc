"""How the five papers divide their data sets, as their code and lists have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnmedseg.dataset_conversion.base import Part

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Protocol:
    """How a paper divides a data set.

    Attributes:
        name: As typed after ``--split``.
        paper: The paper's network, or who else divides the data set like this.
        what: One sentence with the counts.
        sizes: Training, validation and test cases that the pool is divided into; None: all of the
            pool is for training.
        pool: Parts of the release whose cases are divided.
        keeps: Parts of the release that are no pool, with the part that each plays here. Nothing is
            drawn for a part that these fill. Parts of the release that are neither are left out.
        shuffled: Whether the pool is shuffled; otherwise it is cut in the order of the ids.
        begins: How the ids of the pool begin; other cases are left out.
        warnings: What leaks, what is reported on the data that chose the model, and what cannot be
            redone, one sentence each.
    """

    name: str
    paper: str
    what: str
    sizes: tuple[int, int, int] | None = None
    pool: tuple[Part, ...] = ("train",)
    keeps: Mapping[Part, Part] = field(default_factory=dict)
    shuffled: bool = True
    begins: tuple[str, ...] = ("",)
    warnings: tuple[str, ...] = ()


DRAWN_ANEW = (
    "The paper's own draw cannot be redone: the parts have its sizes, but are drawn here, once, "
    "from a fixed seed."
)
NO_VALIDATION = (
    "The paper chooses its checkpoint on the images that it reports on. Here they are the test "
    "part; choose by the folds of the training part."
)


def _overlapping(validation: str, test: str) -> str:
    return (
        "The released code draws every part from another permutation: from its own seed, 42, "
        f"{validation} validation and {test} test images are training images too. Here no image is "
        "in two parts."
    )


def _rosper_and_asc(**protocol: Any) -> tuple[Protocol, Protocol]:
    """RoSPER-Net and ASC-Seg share their loaders, and with them their protocols."""
    return (
        Protocol(name="rosper", paper="RoSPER-Net", **protocol),
        Protocol(name="asc", paper="ASC-Seg", **protocol),
    )


_OFFICIAL: Mapping[Part, Part] = {"validation": "validation", "test": "test"}
_ALL_HELD_OUT_IS_TEST: Mapping[Part, Part] = {"validation": "test", "test": "test"}

_ISIC2018 = (
    *_rosper_and_asc(
        what="1815 / 259 / 520 of the 2594 training images, shuffled",
        sizes=(1815, 259, 520),
        warnings=(DRAWN_ANEW, _overlapping("200 of 259", "37 of 520")),
    ),
    Protocol(
        name="heteromedseg",
        paper="HeteroMedSeg",
        what="1868 / 467 / 259 of the 2594 training images: a tenth for test, a fifth of the rest "
        "for validation",
        sizes=(1868, 467, 259),
        warnings=(
            DRAWN_ANEW,
            "The authors' list is not published, and depends on the order of their file system.",
        ),
    ),
    Protocol(
        name="five-fold",
        paper="HeteroMedSeg's text, after BRAU-Net++",
        what="five folds of the 2594 training images, no test images",
        warnings=(
            "There is no test part: a checkpoint that is chosen on a fold and reported on it is "
            "reported on its selection set.",
            "HeteroMedSeg's code trains one division only, see the split heteromedseg.",
        ),
    ),
    Protocol(
        name="promise",
        paper="ProMISe",
        what="the official 2594 / 100 / 1000",
        keeps=_OFFICIAL,
    ),
)

_ISIC2017 = (
    *_rosper_and_asc(what="the official 2000 / 150 / 600", keeps=_OFFICIAL),
    Protocol(
        name="condseg", paper="ConDSeg", what="the official 2000 / 150 / 600", keeps=_OFFICIAL
    ),
)

_ISIC2016 = (
    Protocol(
        name="condseg",
        paper="ConDSeg",
        what="the official 900 / 379, no validation images",
        keeps={"test": "test"},
        warnings=(NO_VALIDATION,),
    ),
)

_PH2 = _rosper_and_asc(
    what="160 / 20 / 20 of the 200 images, shuffled",
    sizes=(160, 20, 20),
    pool=PARTS,
    warnings=(DRAWN_ANEW, _overlapping("14 of 20", "2 of 20")),
)

_SEVERAL_OF_ONE_POLYP = (
    "Images are drawn one by one, though several may show the same polyp: training and test images "
    "may then be much alike."
)

_KVASIR_SEG = (
    *_rosper_and_asc(
        what="880 / 120 of the 1000 images, shuffled, no validation images",
        sizes=(880, 0, 120),
        pool=PARTS,
        warnings=(
            DRAWN_ANEW,
            NO_VALIDATION,
            _overlapping("107 of 120", "12 of 120"),
            _SEVERAL_OF_ONE_POLYP,
        ),
    ),
    Protocol(
        name="condseg",
        paper="ConDSeg",
        what="880 / 120 by the official lists train.txt and val.txt, no validation images",
        sizes=(880, 0, 120),
        keeps=_ALL_HELD_OUT_IS_TEST,
        warnings=(
            NO_VALIDATION,
            "ConDSeg calls its division the official one, but publishes no list.",
            _SEVERAL_OF_ONE_POLYP,
        ),
    ),
)

_KVASIR_SESSILE = (
    Protocol(
        name="condseg",
        paper="ConDSeg",
        what="156 / 20 / 20 of the 196 images, shuffled",
        sizes=(156, 20, 20),
        keeps=_OFFICIAL,
        warnings=(
            "The paper does not publish its list: lists in the download are used as they are, and "
            "without them the parts are drawn from a fixed seed.",
            _SEVERAL_OF_ONE_POLYP,
        ),
    ),
)

_BUSI_CLASSES = ("benign", "malignant")

_BUSI = (
    Protocol(
        name="rosper",
        paper="RoSPER-Net",
        what="518 / 129 of the 647 benign and malignant images in the order of their names, no "
        "validation images",
        sizes=(518, 0, 129),
        pool=PARTS,
        shuffled=False,
        begins=_BUSI_CLASSES,
        warnings=(
            NO_VALIDATION,
            "The images are not shuffled: all benign ones are for training, and the test part "
            "holds malignant ones only.",
        ),
    ),
    Protocol(
        name="asc",
        paper="ASC-Seg",
        what="518 / 129 of the 647 benign and malignant images, shuffled, no validation images",
        sizes=(518, 0, 129),
        pool=PARTS,
        begins=_BUSI_CLASSES,
        warnings=(DRAWN_ANEW, NO_VALIDATION, _overlapping("102 of 129", "12 of 129")),
    ),
)

_CVC_CLINICDB = (
    Protocol(
        name="heteromedseg",
        paper="HeteroMedSeg",
        what="489 / 62 / 61 of the 612 frames: a tenth for test, a ninth of the rest for "
        "validation",
        sizes=(489, 62, 61),
        pool=PARTS,
        warnings=(
            DRAWN_ANEW,
            "The authors' list is not published, and depends on the order of their file system; "
            "their README says 490 / 61 / 61.",
            "Frames are drawn one by one, so frames of one sequence, which hardly differ, are in "
            "all parts.",
        ),
    ),
)

_GLAS = (
    Protocol(
        name="condseg",
        paper="ConDSeg",
        what="the official 85 / 80 (testA and testB), no validation images",
        keeps=_ALL_HELD_OUT_IS_TEST,
        warnings=(
            NO_VALIDATION,
            "The official parts share patients: train_12 and testA_44 are of the same one.",
        ),
    ),
    Protocol(
        name="by-patient",
        paper="No paper",
        what="five folds of all 165 images by patient, no test images",
        pool=PARTS,
    ),
)

_RECTAL_CANCER = (
    Protocol(
        name="heteromedseg",
        paper="HeteroMedSeg",
        what="688 / 86 / 86 of the 860 slices with tumour; the test slices by the published list",
        sizes=(688, 86, 86),
        keeps=_OFFICIAL,
        warnings=(
            "The division is by slice: all 59 patients of the published test slices have slices in "
            "training too, so results are optimistic.",
            "The published list has no validation slices; the paper's depend on the version of a "
            "library, here they are drawn from a fixed seed.",
            "The paper keeps only slices with tumour; so must the images that are converted.",
        ),
    ),
    Protocol(
        name="by-patient",
        paper="No paper",
        what="five folds of all slices by patient, no test images",
        pool=PARTS,
    ),
)

_CHASE_DB1 = (
    Protocol(
        name="first-20",
        paper="Common use",
        what="the first 20 / last 8 of the 28 images in the order of their names, no validation "
        "images",
        sizes=(20, 0, 8),
        pool=PARTS,
        shuffled=False,
        warnings=("There is no validation part: choose by the folds of the training part.",),
    ),
)

_SYNAPSE = (
    Protocol(
        name="heteromedseg",
        paper="HeteroMedSeg",
        what="18 / 12 of the 30 volumes, as in TransUNet, no validation volumes",
        keeps={"test": "test"},
        warnings=(
            "The paper has no validation part, so nothing but the test part can have chosen its "
            "checkpoint. Here choose by the folds of the training part.",
        ),
    ),
)

_POLYP_BENCHMARK = (
    Protocol(
        name="promise",
        paper="ProMISe",
        what="PraNet's 1450 training and 798 test images (60 + 62 + 380 + 196 + 100), no "
        "validation images",
        keeps=_ALL_HELD_OUT_IS_TEST,
        warnings=(
            "ProMISe chooses its checkpoint on the union of the five test sets. Here they are the "
            "test part; choose by the folds of the training part.",
        ),
    ),
)

PROTOCOLS: Mapping[str, tuple[Protocol, ...]] = {
    "Synapse": _SYNAPSE,
    "ISIC2018": _ISIC2018,
    "ISIC2017": _ISIC2017,
    "ISIC2016": _ISIC2016,
    "PH2": _PH2,
    "Kvasir-SEG": _KVASIR_SEG,
    "Kvasir-Sessile": _KVASIR_SESSILE,
    "BUSI": _BUSI,
    "CVC-ClinicDB": _CVC_CLINICDB,
    "GlaS": _GLAS,
    "RectalCancer": _RECTAL_CANCER,
    "PolypBenchmark": _POLYP_BENCHMARK,
    "CHASE_DB1": _CHASE_DB1,
}
"""By the converter's name."""
