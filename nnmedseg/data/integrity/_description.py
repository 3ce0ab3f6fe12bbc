"""dataset.json: whether nnU-Net can use it, and what it says about the files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nnmedseg.data import IMAGE_ENDINGS
from nnmedseg.data.integrity._report import Problem, problem

FILE = "dataset.json"
REQUIRED_KEYS = ("channel_names", "labels", "numTraining", "file_ending")

Content = Literal["image", "volume", "nifti", "stack"]
"""What a file holds: a natural image, a volume, a volume read with nibabel, or a TIFF of slices."""

READERS: dict[str, tuple[Content, tuple[str, ...]]] = {
    "NaturalImage2DIO": ("image", (".png", ".bmp", ".tif")),
    "SimpleITKIO": ("volume", (".nii.gz", ".nrrd", ".mha", ".gipl")),
    "SimpleITKIOWithReorient": ("volume", ()),
    "Tiff3DIO": ("stack", (".tif", ".tiff")),
    "NibabelIO": ("nifti", (".nii", ".nii.gz")),
    "NibabelIOWithReorient": ("nifti", (".nii", ".nii.gz")),
}
"""nnU-Net's readers in the order in which it tries them, and the endings that they are tried for.

A reader that dataset.json names is used for other endings too.
"""


@dataclass
class Description:
    """What dataset.json says; ``None`` where it says nothing that can be used.

    Attributes:
        labels: Values that labels may hold, the ignore label included.
        ignore: The ignore label, if there is one.
        channels: How many channels an image has.
        num_training: How many training cases there should be.
        file_ending: Ending of all images and labels, with its dot.
        content: What the files hold.
        may_be_stack: nnU-Net finds out by reading the first image whether its files are stacks.
        listed: The entry ``dataset``, which names the files of each training case.
        problems: What is wrong with the file.
    """

    labels: frozenset[int] | None = None
    ignore: int | None = None
    channels: int | None = None
    num_training: int | None = None
    file_ending: str | None = None
    content: Content | None = None
    may_be_stack: bool = False
    listed: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)


def read_description(folder: Path) -> Description:
    """Read and check dataset.json, as far as that is possible."""
    description = Description()
    content = _read(folder / FILE, description.problems)
    if content is None:
        return description
    missing = [key for key in REQUIRED_KEYS if key not in content]
    if missing:
        what = f"required keys are missing: {', '.join(missing)}"
        if "modality" in content and "channel_names" in missing:
            what += "; this is the form of nnU-Net's first version and of the Decathlon, convert it"
        description.problems.append(problem("bad-description", FILE, what))
    checks = {
        "labels": _take_labels,
        "channel_names": _take_channels,
        "numTraining": _take_number,
        "file_ending": _take_ending,
        "dataset": _take_list,
    }
    for key, take in checks.items():
        if key in content:
            description.problems += take(description, content)
    return description


def take_likely_ending(description: Description, names: Iterable[str]) -> None:
    """Take the known ending that most files have for that of the data set."""
    known = {ending for _, endings in READERS.values() for ending in endings}
    endings = Counter(
        ending for name in names for ending in known if name.lower().endswith(ending)
    ).most_common(1)
    for ending, _ in endings:
        description.file_ending = ending
        _take_content(description, ending)


def _take_content(description: Description, ending: str) -> bool:
    """Take what files of an ending hold, and return whether nnU-Net has a reader for them."""
    holding = [holds for holds, endings in READERS.values() if ending.lower() in endings]
    if holding:
        description.content = holding[0]
        description.may_be_stack = holding[0] == "image" and "stack" in holding
    elif ending.lower() in IMAGE_ENDINGS:
        description.content = "image"
    return bool(holding)


def _read(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    if not path.is_file():
        what = "the data set has no dataset.json, which names its channels, labels and file ending"
        problems.append(problem("no-description", FILE, what))
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        problems.append(problem("bad-description", FILE, f"it cannot be read as JSON: {error}"))
        return None
    if not isinstance(content, dict):
        problems.append(problem("bad-description", FILE, "it holds no JSON object of keys"))
        return None
    return content


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _take_labels(description: Description, content: Mapping[str, Any]) -> Iterator[Problem]:
    labels = content["labels"]
    faults = list(_faults_of_labels(labels))
    if not faults:
        description.ignore = labels.get("ignore")
        description.labels = frozenset(_values(labels)) | (
            frozenset() if description.ignore is None else {description.ignore}
        )
        faults = list(_faults_of_order(labels, description.ignore))
        faults += list(_faults_of_regions(labels, content.get("regions_class_order")))
    for fault in faults:
        yield problem("label-definition", FILE, fault)


def _values(labels: Mapping[str, Any]) -> set[int]:
    """Return all values of the labels but that of the ignore label."""
    entries = (value for name, value in labels.items() if name != "ignore")
    return {
        number for value in entries for number in (value if isinstance(value, list) else [value])
    }


def _faults_of_labels(labels: object) -> Iterator[str]:
    if not isinstance(labels, dict) or not labels:
        yield 'labels must map names to numbers, for instance {"background": 0, "lesion": 1}'
        return
    if "background" not in labels:
        turned = all(isinstance(value, str) for value in labels.values())
        yield (
            "labels maps numbers to names; nnU-Net's second version needs names to numbers, "
            'for instance {"background": 0, "lesion": 1}'
            if turned
            else "labels has no 'background', which must be label 0"
        )
        return
    for name, value in labels.items():
        numbers = value if isinstance(value, list) and value and name != "ignore" else [value]
        if not all(_is_whole(number) for number in numbers):
            yield f"the label {name!r} must be a whole number, not {value!r}"
    background = labels["background"]
    if isinstance(background, list) or background != 0:
        yield f"the background must be label 0, not {background!r}"


def _faults_of_order(labels: Mapping[str, Any], ignore: int | None) -> Iterator[str]:
    values = sorted(_values(labels))
    if values != list(range(len(values))):
        yield f"labels must be 0, 1, 2, ... without a gap, not {', '.join(map(str, values))}"
    if len(values) < 2:
        yield "there is no label besides the background, so there is nothing to learn"
    if ignore is not None and ignore != values[-1] + 1:
        yield f"the ignore label must be the highest, {values[-1] + 1} here, not {ignore}"


def _faults_of_regions(labels: Mapping[str, Any], order: object) -> Iterator[str]:
    if not any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        numbers = [value[0] if isinstance(value, list) else value for value in labels.values()]
        if len(set(numbers)) < len(numbers):
            yield "two names have the same label"
        return
    regions = [
        value
        for name, value in labels.items()
        if name != "ignore" and set(value if isinstance(value, list) else [value]) != {0}
    ]
    if not isinstance(order, list) or len(order) != len(regions):
        yield (
            f"labels with regions need the key regions_class_order, a list of {len(regions)} "
            "labels, one for each region"
        )


def _take_channels(description: Description, content: Mapping[str, Any]) -> Iterator[Problem]:
    names = content["channel_names"]
    if not isinstance(names, dict) or not names:
        what = 'channel_names must map numbers to names, for instance {"0": "CT"}'
        yield problem("bad-description", FILE, what)
        return
    description.channels = len(names)
    if set(names) != {str(number) for number in range(len(names))}:
        what = f"channel_names must be numbered from 0 on, not {', '.join(names)}"
        yield problem("channel-names", FILE, what)


def _take_number(description: Description, content: Mapping[str, Any]) -> Iterator[Problem]:
    number = content["numTraining"]
    if _is_whole(number):
        description.num_training = number
    else:
        what = f"numTraining must be the number of training cases, not {number!r}"
        yield problem("bad-description", FILE, what)


def _take_ending(description: Description, content: Mapping[str, Any]) -> Iterator[Problem]:
    ending = content["file_ending"]
    if not isinstance(ending, str) or not ending.startswith(".") or len(ending) < 2:
        what = f"file_ending must be an ending with its dot, for instance '.png', not {ending!r}"
        yield problem("file-ending", FILE, what)
        return
    description.file_ending = ending
    named = READERS.get(str(content.get("overwrite_image_reader_writer")))
    if named is not None:
        description.content = named[0]
        return
    if _take_content(description, ending):
        return
    known = sorted({known for _, endings in READERS.values() for known in endings})
    what = f"nnU-Net has no reader for files that end in {ending!r}, only for {', '.join(known)}"
    yield problem("file-ending", FILE, what)


def _take_list(description: Description, content: Mapping[str, Any]) -> Iterator[Problem]:
    listed = content["dataset"]
    if isinstance(listed, dict) and all(_is_case(entry) for entry in listed.values()):
        description.listed = listed
        return
    what = 'dataset must map case ids to {"images": [files], "label": file}'
    yield problem("bad-description", FILE, what)


def _is_case(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("images"), list)
        and bool(entry["images"])
        and all(isinstance(name, str) for name in (*entry["images"], entry.get("label")))
    )
