"""Tiles that go side by side on a CPU."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch import nn

from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.side_by_side import MOST_WORKERS, SideBySide, side_by_side_for
from nnmedseg.inference.sliding_window import mirrored_axes
from nnmedseg.inference.tile_batches import TileBatches

from .plain_model import plain_model

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads():
    """PyTorch's number of threads, which is set back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items():
    def slow_at_first(number):
        time.sleep(0.05 if number < 2 else 0)
        return number

    assert list(SideBySide(3).map(slow_at_first, range(20))) == list(range(20))


def test_as_many_as_there_are_workers_are_computed_at_once():
    beside = SideBySide(3)
    meeting = threading.Barrier(beside.workers)
    assert len(list(beside.map(lambda _: meeting.wait(60), range(3)))) == 3


def test_few_results_wait_for_whoever_takes_them():
    beside = SideBySide(2)
    begun = []
    results = beside.map(begun.append, range(100))
    for _ in range(3):
        next(results)
    time.sleep(0.1)
    assert len(begun) <= 3 + beside.workers + 1


def test_an_error_reaches_whoever_takes_the_results():
    with pytest.raises(ZeroDivisionError):
        list(SideBySide(2).map(lambda number: 1 // number, range(3)))


@pytest.mark.parametrize("cores", [2, 3, 2 * MOST_WORKERS + 1])
def test_workers_share_the_cores_and_others_have_them_all(cores):
    beside = SideBySide(cores)
    assert beside.workers == min(cores, MOST_WORKERS)
    meeting = threading.Barrier(beside.workers)

    def threads_of(_):
        meeting.wait(60)
        return _threads()

    of_workers = set(beside.map(threads_of, range(beside.workers)))
    assert of_workers == {cores // beside.workers}
    of_another: list[int] = []
    another = threading.Thread(target=lambda: of_another.append(_threads()))
    another.start()
    another.join()
    assert [_threads(), *of_another] == [cores, cores]


def _threads():
    torch.zeros(10**6) + 1  # a thread learns its number when it first computes
    return torch.get_num_threads()


def test_tiles_and_mirrored_copies_give_the_same_as_one_after_another():
    network = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 3, 1)).eval()
    tiles = list(torch.randn(5, 1, 2, 8, 12))
    flips = mirrored_axes((0, 1))
    with torch.inference_mode():
        expected = list(TileBatches(CPU).predict(network, tiles, flips, torch.sigmoid))
        found = list(TileBatches(CPU, SideBySide(2)).predict(network, tiles, flips, torch.sigmoid))
    for logits, probabilities in zip(found, expected, strict=True):
        torch.testing.assert_close(logits, probabilities)


def test_fewer_tiles_than_workers_have_all_cores():
    network = nn.Conv2d(2, 3, 1)
    ran_in = []
    network.register_forward_hook(lambda *_: ran_in.append(threading.current_thread()))
    batches = TileBatches(CPU, SideBySide(2))
    with torch.inference_mode():
        list(batches.predict(network, [torch.zeros(1, 2, 4, 4)], [()]))
        assert ran_in == [threading.current_thread()]
        list(batches.predict(network, [torch.zeros(1, 2, 4, 4)] * 2, [()]))
        assert threading.current_thread() not in ran_in[1:]


def test_small_images_are_predicted_together(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    predictor = MedSegPredictor.from_folder(plain_model(tmp_path), mirroring=False)
    assert predictor.most_together((1, 16, 24)) == 8
    assert predictor.most_together((1, 16, 200)) == 1


def test_one_core_is_not_shared(tmp_path, monkeypatch):
    network = MedSegPredictor.from_folder(plain_model(tmp_path)).network
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert side_by_side_for(network, CPU) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert side_by_side_for(network, CPU) is not None
    assert side_by_side_for(nn.Conv2d(3, 2, 1), CPU) is None
    assert side_by_side_for(network, torch.device("cuda")) is None
