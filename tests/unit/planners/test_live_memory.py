"""Counting the bytes of tensors while they live."""

from __future__ import annotations

import torch

from nnmedseg.planners._live_memory import LiveMemory, Moment

BATCH = 7
IMAGE = 10 * 4  # bytes of ten numbers in float32


def test_freed_tensors_are_counted_until_they_are_freed():
    with LiveMemory(BATCH) as live:
        x = torch.zeros(BATCH, 10, device="meta")
        for _ in range(5):
            x = x + 1
    assert live.live == Moment(0, IMAGE)
    assert live.peaks[2] == Moment(0, 2 * IMAGE)


def test_views_share_what_is_counted():
    with LiveMemory(BATCH) as live:
        x = torch.zeros(BATCH, 10, device="meta")
        views = [x.view(-1), x.t(), x[:, 3:]]
    assert len(views) == 3
    assert live.live == Moment(0, IMAGE)


def test_tensors_that_were_there_are_counted_once_they_are_added():
    x = torch.zeros(BATCH, 10, device="meta")
    live = LiveMemory(BATCH)
    assert live.live == Moment(0, 0)
    live.add([x, x.view(-1)])
    assert live.live == Moment(0, IMAGE)


def test_what_does_not_grow_with_the_batch_is_fixed():
    with LiveMemory(BATCH) as live:
        tensors = torch.zeros(3, device="meta"), torch.zeros(BATCH, 2, device="meta")
    assert len(tensors) == 2
    assert live.live == Moment(12, 8)


def test_a_tensor_that_comes_later_can_count_from_the_start():
    live = LiveMemory(BATCH)
    with live:
        torch.zeros(BATCH, 10, device="meta").add(1)
    state = torch.zeros(5, device="meta")
    live.add_from_the_start([state])
    assert live.peaks[2] == Moment(20, 2 * IMAGE)


def test_an_operations_own_workspace_counts_while_it_runs():
    def nine_times(x):
        return 9 * x.nbytes

    x = torch.zeros(BATCH, 10, device="meta")
    with LiveMemory(BATCH, {"aten::relu": nine_times}) as live:
        x.relu()
        x.relu()
    assert live.peaks[2] == Moment(0, 10 * IMAGE)


def test_the_peak_depends_on_the_batch():
    with LiveMemory(BATCH) as live:
        fixed = torch.zeros(100, device="meta")
        del fixed
        kept = torch.zeros(BATCH, 10, device="meta")
    assert kept is not None
    assert (live.peaks[2], live.peaks[32]) == (Moment(400, 0), Moment(0, IMAGE))
