"""RoSPER-Net and ASC-Seg beside the same networks made of plain modules, on a CPU.

The peers are explained in ``plain_networks.py``: "sequential scan" is the authors' modules as they
are on a CPU; "only the scan replaced" is the same modules around our scan, in the same form. All
run in one process, in turns, on two images.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace

import torch
from forms import DEFORMABLE, SCAN, deformable_forms, forced, scan_forms
from peers import sequential_scan
from plain_networks import our_scan, plain_network
from report import SPEED_COLUMNS, Report, Target, machine
from timing import Pass, clock_name, median_ratio, median_seconds, take_turns
from torch import nn

from nnmedseg.networks import create_network

BATCH = 2
FORMS = {
    "PyTorch": {SCAN: "chunked", DEFORMABLE: "sampling"},
    "numba": {SCAN: "numba", DEFORMABLE: "numba"},
}
"""What our operators are forced to, by the name in the table."""


@dataclass(frozen=True)
class Comparison:
    """A network, a pass of it, and what the pass is held to.

    Attributes:
        network: Registered name.
        training: Whether the pass is a training step, or inference.
        side: Height and width of the images.
        targets: By the names of `FORMS`.
        our_scan: Whether the peer has our scan, or the sequential one.
    """

    network: str
    training: bool
    side: int
    targets: dict[str, Target]
    our_scan: bool = False

    @property
    def title(self) -> str:
        """Network, pass, image and peer."""
        name = "training step" if self.training else "inference"
        peer = "only the scan replaced" if self.our_scan else "sequential scan"
        return f"{self.network} {name}, {self.side} x {self.side}, {peer}"


COMPARISONS = (
    Comparison("rosper", False, 256, {"PyTorch": Target(6, 8), "numba": Target(9, 12)}),
    Comparison(
        "rosper",
        True,
        256,
        {"PyTorch": Target(1.6, 2.0), "numba": Target(2.2, 2.9)},
        our_scan=True,
    ),
    Comparison("rosper", True, 64, {"PyTorch": Target(25, 53), "numba": Target(30, 56)}),
    Comparison("asc", False, 256, {"PyTorch": Target(9, 14), "numba": Target(12, 18)}),
    Comparison("asc", True, 64, {"PyTorch": Target(14, 23), "numba": Target(20, 36)}),
)


def whole_networks(report: Report, options: argparse.Namespace) -> None:
    """A table with a line for each comparison and each form that runs here."""
    scans, notes = scan_forms()
    deformables, more_notes = deformable_forms()
    forms = [
        name
        for name, forced_forms in FORMS.items()
        if forced_forms[SCAN] in scans and forced_forms[DEFORMABLE] in deformables
    ]
    about = (
        f"{machine('cpu', options.threads)}, batch {BATCH}. The peers are our networks with the",
        "authors' modules: tokens-last Mamba called group by group, torchvision's deformable",
        "convolution, depthwise convolutions in NCHW; inside, the sequential scan, or ours where",
        'only the scan is replaced. "PyTorch" is our operators in plain PyTorch, "numba" compiled.',
    )
    report.table(SPEED_COLUMNS, "Beside the same networks made of plain modules", about)
    for comparison in COMPARISONS:
        if comparison.network in options.networks:
            _compare(_at_size(comparison, options.size), forms, report, options)
    report.notes([*notes, *more_notes])


def _at_size(comparison: Comparison, side: int | None) -> Comparison:
    """The comparison on smaller images, for which there are no targets."""
    if side is None or side >= comparison.side:
        return comparison
    return replace(comparison, side=side, targets=dict.fromkeys(FORMS, Target()))


def _compare(
    comparison: Comparison, forms: list[str], report: Report, options: argparse.Namespace
) -> None:
    images = torch.randn(BATCH, 3, comparison.side, comparison.side)
    network = create_network(comparison.network, 3, 2, deep_supervision=comparison.training).train(
        comparison.training
    )
    ours = network if comparison.training else network.fuse()
    passes = {form: _pass(ours, images, FORMS[form]) for form in forms}
    if comparison.our_scan:
        peer = plain_network(network, our_scan)
        peers = {form: f"peer of {form}" for form in forms}
        passes |= {peers[form]: _pass(peer, images, FORMS[form]) for form in forms}
    else:
        peers = dict.fromkeys(forms, "peer")
        passes["peer"] = _pass(plain_network(network, sequential_scan), images, {})
    clock = getattr(time, clock_name("cpu", options.threads))
    turns = take_turns(passes, clock, turns=options.repeats, budget=options.line_budget)
    for form in forms:
        seconds = median_seconds(turns, form), median_seconds(turns, peers[form])
        ratio = median_ratio(turns, peers[form], form)
        report.speed(comparison.title, form, seconds, ratio, comparison.targets[form])


def _pass(network: nn.Module, images: torch.Tensor, forms: dict[str, str]) -> Pass:
    """A training step, or inference if the network is in evaluation mode, in the given forms."""
    if not network.training:

        def inference() -> None:
            with forced(**forms), torch.no_grad():
                network(images)

        return inference
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        with forced(**forms):
            optimiser.zero_grad()
            torch.stack([x.square().mean() for x in network(images)]).sum().backward()
            optimiser.step()

    return step
