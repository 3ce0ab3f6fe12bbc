"""What a data set is: its release, its files as cases, and what may be chosen about it.

A data set is one file in this folder: a subclass of ``DatasetConverter`` under ``@register`` that
names the release and has one method, ``find_cases``; ``finding.py`` helps it. Reading, checking,
writing, splitting, progress and resuming are done once for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from nnmedseg.errors import UserError

Part = Literal["train", "validation", "test"]

Content = Literal["rgb", "grey", "volume"]
"""RGB images and grey images are written as PNG, volumes as compressed NIfTI."""

FILE_ENDINGS: Mapping[Content, str] = {"rgb": ".png", "grey": ".png", "volume": ".nii.gz"}
READERS: Mapping[Content, str] = {
    "rgb": "NaturalImage2DIO",
    "grey": "NaturalImage2DIO",
    "volume": "SimpleITKIO",
}


@dataclass(frozen=True)
class Case:
    """One image with its masks, as files.

    A converter reports what it finds: a mask whose image is missing is a case without images, an
    image whose mask is missing is a case without masks. What is wrong is said by the checks, for
    all cases at once.

    Attributes:
        id: Name of the case in the converted data set, safe for file names (see
            ``finding.safe_id``).
        images: One file of a photograph. Of a volume: the files of the channels, in their order, or
            the slices from the first to the last (npz).
        masks: Files of the masks; several are united where the converter says so. Files that hold
            both image and mask (npz, h5) are named in both.
        part: Official part of the release.
        group: What must not be divided by a split, for instance the patient; None: nothing.
        subset: Which of several test sets the case belongs to, where a release has several.
        missing_channels: Names of the channels of a volume that have no file.
    """

    id: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...] = ()
    part: Part = "train"
    group: str | None = None
    subset: str | None = None
    missing_channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """What a user may choose about a data set; each says which of these it understands.

    Attributes:
        include: Names of parts that are left out by default, for instance BUSI's ``normal``.
        labels: Names of the labels, a preset's name or a list; each data set says which.
        spacing: Millimetres along z, y and x, where the files do not tell.
        images: Pattern of the image files below the folder, for instance ``images/*.jpg``.
        masks: Likewise of the mask files.
        channels: Names of the channels with commas, in their order. ``{channel}`` in ``images``
            stands for each of them where a volume has one file a channel.
        groups: Regular expression whose first group, found in a case's name, is its group.
        name: Name of the converted data set.
        resize_masks: Bring masks of another size to that of their image.
    """

    include: tuple[str, ...] = ()
    labels: str | None = None
    spacing: tuple[float, float, float] | None = None
    images: str | None = None
    masks: str | None = None
    channels: str | None = None
    groups: str | None = None
    name: str | None = None
    resize_masks: bool = False

    def given(self) -> dict[str, Any]:
        """Return the options that were chosen, by name."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


class DatasetConverter(ABC):
    """A data set: what it is, and where its cases are in the download.

    All attributes are a class's; what depends on options or files, ``find_cases`` or the
    constructor sets on the instance.

    Attributes:
        name: Official name, as typed after ``nnmedseg_convert``.
        number: Number of the converted data set, 1 to 999, unique among the converters; None: the
            user chooses it.
        title: The data set in one line.
        page: Address of the page where it is downloaded.
        licence: Terms of the release, or where they are found.
        citation: What to cite.
        content: How images are written.
        channel_names: Of the converted images. nnU-Net derives the normalisation from them:
            z-score for each image and channel under the names R, G and B.
        labels: Of the converted masks, background first.
        label_values: Label of each value in the mask files, where they are label maps; None: they
            are binary, and foreground is what their encoding says.
        unites_masks: Whether a case may have several masks, whose union is meant.
        slices_are_files: Whether the images of a case are the slices of one volume.
        window: Lowest and highest value (Hounsfield units) that grey images of DICOM files are
            scaled from, to 0 and 255.
        understands: Names of the ``Options`` that the data set has.
        includes: What ``Options.include`` may name, with a sentence each.
        notes: Sentences for the user that ``find_cases`` finds worth saying, for instance which
            slices are missing. They are printed and written into ``conversion.json``.
        left_out: Files of the download that ``find_cases`` leaves out on purpose, with the reason
            that ``conversion.json`` gives.
    """

    name: str
    number: int | None
    title: str
    page: str
    licence: str
    citation: str
    content: Content = "rgb"
    channel_names: Mapping[str, str] = {"0": "R", "1": "G", "2": "B"}
    labels: Mapping[str, int] = {"background": 0, "lesion": 1}
    label_values: Mapping[int, int] | None = None
    unites_masks: bool = False
    slices_are_files: bool = False
    window: tuple[float, float] | None = None
    understands: ClassVar[frozenset[str]] = frozenset()
    includes: ClassVar[Mapping[str, str]] = {}

    def __init__(self, options: Options | None = None):
        """Take the user's choices.

        Raises:
            UserError: The data set does not understand one of them.
        """
        self.options = options or Options()
        self.notes: list[str] = []
        self.left_out: dict[Path, str] = {}
        understood = set(self.understands)
        if self.content != "volume":
            understood.add("resize_masks")
        for option in self.options.given():
            if option not in understood:
                known = ", ".join(f"--{name}" for name in sorted(understood)).replace("_", "-")
                raise UserError(
                    f"{self.name} has no option --{option.replace('_', '-')}",
                    mend=f"leave it out; options of this data set: {known or 'none'}",
                )
        for included in self.options.include:
            if included not in self.includes:
                choices = "; ".join(f"{name}: {what}" for name, what in self.includes.items())
                raise UserError(
                    f"{self.name} has nothing called {included!r} to include",
                    where="--include",
                    mend=f"choose from: {choices}",
                )

    @property
    def dataset_name(self) -> str:
        """Name of the converted data set, after ``DatasetNNN_``."""
        return self.name

    @property
    def file_ending(self) -> str:
        """Of the converted files."""
        return FILE_ENDINGS[self.content]

    @property
    def reader(self) -> str:
        """nnU-Net's class that reads the converted files."""
        return READERS[self.content]

    @abstractmethod
    def find_cases(self, root: Path) -> list[Case]:
        """Find the cases below the download folder ``root``, without decoding images.

        Raises:
            NotFoundError: The folders of the release are not there.
        """

    def review(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return warnings about what was written, where the data set is known to have traps.

        Args:
            records: What ``conversion.json`` says about the cases, for instance ``label_pixels``.
        """
        del records
        return []
