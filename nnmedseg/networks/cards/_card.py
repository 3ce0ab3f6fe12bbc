"""What a model card states that cannot be read from the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One number of a paper's own row in its tables.

    Args:
        data_set: Where it was measured.
        metric: The metric, by the paper's name for it.
        value: Overlap metrics in percent, whatever the paper prints.
        unit: What the value is counted in.
    """

    data_set: str
    metric: str
    value: float
    unit: str = "%"


def in_percent(rows: Mapping[str, Mapping[str, float]]) -> tuple[Result, ...]:
    """Results from percentages by data set and metric."""
    return tuple(
        Result(data_set, metric, value)
        for data_set, row in rows.items()
        for metric, value in row.items()
    )


@dataclass(frozen=True)
class PublishedCost:
    """What the authors say that the network costs.

    Args:
        millions_of_parameters: As published.
        gflops: As published, in whatever the authors count; ``None`` if they publish no figure.
        note: Why what is counted here differs from what the authors count or have.
    """

    millions_of_parameters: float | None = None
    gflops: float | None = None
    note: str = ""


@dataclass(frozen=True)
class NetworkFacts:
    """Where a network comes from, and what its authors report.

    Args:
        title: The paper's title.
        authors: Who published it, as the paper or, where that is not public, the repository says.
        repository: ``owner/name@commit`` of the code that was followed.
        licence: Licence of that repository.
        short_title: What the network is called in a table.
        image_size: Height and width in pixels of the images in the paper.
        weights_licence: Terms of weights that the authors trained, and of those that they start
            from.
        losses: Names of the paper's losses.
        input_channels: Channels of the paper's images.
        num_classes: Channels of the paper's logits.
        starts_from: Pretrained weights that the paper's training starts from, if any.
        published_in: Where the paper appeared, if that is known.
        published_cost: Parameters and operations as published.
        results: The paper's own row in its tables, as published.
        results_notes: How these numbers were made, and how far they can be compared with.
        notes: What else one should know before using the network.
    """

    title: str
    authors: str
    repository: str
    licence: str
    short_title: str
    image_size: tuple[int, int]
    weights_licence: str
    losses: tuple[str, ...]
    input_channels: int = 3
    num_classes: int = 1
    starts_from: str = ""
    published_in: str = ""
    published_cost: PublishedCost = PublishedCost()
    results: tuple[Result, ...] = ()
    results_notes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def citation(self) -> str:
        """One line to cite the paper by."""
        where = f"{self.published_in}. " if self.published_in else ""
        code = f"github.com/{self.repository.partition('@')[0]}"
        return f'{self.authors}: "{self.title}". {where}Code: {code}.'
