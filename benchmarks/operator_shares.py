"""Which share of a pass each kind of operator has, by the profiler.

The slow operators have functions of their own, whose calls are labelled while the profiler runs.
Whatever runs inside a labelled call counts to its label: activations, copies and products too. So
does the backward pass of what ran inside, which the profiler numbers as it does the forward pass.
All other operators count by their names.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from nnmedseg.ops import deformable_depthwise_conv, depthwise_conv, selective_scan
from nnmedseg.ops.ssd import bidirectional_ssd, causal_ssd, noncausal_ssd
from nnmedseg.ops.window_mix import mix_windows

SCAN = "selective scan"
SSD = "SSD"
DEFORMABLE = "deformable convolution"
WIDE = "wide depthwise convolution"
WINDOWS = "window mixing"
CONVOLUTIONS = "other convolutions"
NORMS = "norms"
COPIES = "copies"
PRODUCTS = "products and attention"
REST = "rest"
KINDS = (SCAN, SSD, DEFORMABLE, WIDE, WINDOWS, CONVOLUTIONS, NORMS, COPIES, PRODUCTS, REST)

WIDE_KERNEL = 7
"""Rows or columns from which a depthwise convolution is a wide one."""

_LABELLED: dict[Callable[..., Any], str] = {
    selective_scan: SCAN,
    causal_ssd: SSD,
    noncausal_ssd: SSD,
    bidirectional_ssd: SSD,
    deformable_depthwise_conv: DEFORMABLE,
    depthwise_conv: WIDE,
    mix_windows: WINDOWS,
}
_PARTS_OF_NAMES = {
    NORMS: ("batch_norm", "layer_norm", "group_norm", "instance_norm"),
    CONVOLUTIONS: ("conv",),
    PRODUCTS: ("mm", "matmul", "attention", "linear", "einsum"),
    COPIES: ("copy", "clone", "contiguous", "aten::cat", "aten::repeat"),
}
_LABEL = "operator: "
_BACKWARD = "autograd::engine::evaluate_function"


def profiled(run: Callable[[], None], device: torch.device) -> tuple[dict[str, float], str]:
    """Profile one pass that has run before.

    Returns:
        The share of each of `KINDS`, and the three operators with the largest own shares, as text.
    """
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_cuda
    with labelled_operators(), profile(activities=activities) as profiler:
        run()
    # Operators; a GPU's kernels are counted in theirs.
    events = [x for x in profiler.events() or [] if x.device_type == DeviceType.CPU]
    own = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    return _shares(events, own), _largest(events, own)


@contextmanager
def labelled_operators() -> Iterator[None]:
    """Wrap the slow operators' functions, wherever the package has imported them by name."""
    replaced = []
    for function, kind in _LABELLED.items():
        wrapper = _labelled(function, kind)
        for names in list(_namespaces()):
            replaced += [(names, key, function) for key in names if names[key] is function]
            names.update({key: wrapper for key in names if names[key] is function})
    try:
        yield
    finally:
        for names, key, function in replaced:
            names[key] = function


def _namespaces() -> Iterator[dict[Any, Any]]:
    """The package's modules, and the tables that they keep."""
    for name, module in list(sys.modules.items()):
        if name.startswith("nnmedseg."):
            yield vars(module)
            yield from [x for x in vars(module).values() if isinstance(x, dict)]


def _labelled(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kind == WIDE and max(args[1].shape[2:]) < WIDE_KERNEL:
            return function(*args, **kwargs)
        with record_function(_LABEL + kind):
            return function(*args, **kwargs)

    return call


def _shares(events: list[Any], own: str) -> dict[str, float]:
    kinds_of_nodes = _kinds_of_nodes(events)
    times: Counter[str] = Counter()
    for event in events:
        times[_kind(event, kinds_of_nodes)] += getattr(event, own)
    total = sum(times.values()) or 1
    return {kind: times[kind] / total for kind in KINDS}


def _kinds_of_nodes(events: list[Any]) -> dict[int, str]:
    """The label under which each node of the graph for the backward pass was made, if there is one.

    A node takes the next number in the sequence, and so do the operators before it that make none:
    the last of those that bear a number made the node.
    """
    makers = {}
    for event in sorted(events, key=lambda x: x.time_range.start):
        if event.sequence_nr >= 0 and _inside(event, _BACKWARD) is None:
            makers[event.sequence_nr] = event
    labels = {number: _inside(event, _LABEL) for number, event in makers.items()}
    return {number: x.name.removeprefix(_LABEL) for number, x in labels.items() if x is not None}


def _kind(event: Any, kinds_of_nodes: dict[int, str]) -> str:
    label = _inside(event, _LABEL)
    if label is not None:
        return label.name.removeprefix(_LABEL)
    node = _inside(event, _BACKWARD)
    if node is not None and node.sequence_nr in kinds_of_nodes:
        return kinds_of_nodes[node.sequence_nr]
    for kind, parts in _PARTS_OF_NAMES.items():
        if event.name.startswith("aten::") and any(part in event.name for part in parts):
            return kind
    return REST


def _inside(event: Any, prefix: str) -> Any:
    """The innermost event, this one or one around it, whose name begins like this."""
    while event is not None and not event.name.startswith(prefix):
        event = event.cpu_parent
    return event


def _largest(events: list[Any], own: str) -> str:
    times: Counter[str] = Counter()
    for event in events:
        times[event.name] += getattr(event, own)
    total = sum(times.values()) or 1
    return ", ".join(
        f"{name.removeprefix('aten::')} {time / total:.0%}" for name, time in times.most_common(3)
    )
