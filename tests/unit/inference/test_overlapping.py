"""Cases are predicted together where that pays, and one that fails takes no other along."""

import threading
import time
from concurrent.futures import Future

import pytest
import torch
from PIL import Image

from nnmedseg.errors import DataError
from nnmedseg.inference.folders.manifest import FAILED, PREDICTED, Outcome, facts_of
from nnmedseg.inference.folders.overlapping import BYTES_READ_AHEAD, overlapped
from nnmedseg.inference.folders.predict import predict_folder
from nnmedseg.inference.inputs.cases import InputCase
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.side_by_side import SideBySide
from nnmedseg.inference.tile_batches import TileBatches

from .plain_model import plain_model


@pytest.fixture
def cases(tmp_path):
    files = [tmp_path / f"{name}.png" for name in "abcdefg"]
    for number, file in enumerate(files):
        Image.new("RGB", (20 + number, 14), (50 * number, 90, 200 - 20 * number)).save(file)
    return [InputCase(file.stem, (file,)) for file in files]


def predicted(case):
    future = Future()
    future.set_result(Outcome(case.name, facts_of(case), PREDICTED))
    return future


class Recorder:
    """Predicts all but some cases, slower than they are read, and notes which went together."""

    def __init__(self, bad=()):
        self.groups = []
        self._bad = bad

    def prepare(self, case):
        if case.name in self._bad:
            raise DataError(f"{case.name} is bad")
        return case

    def predict(self, together, writers):
        self.groups.append("".join(case.name for case in together))
        time.sleep(0.1)
        if any(case.name.upper() in self._bad for case in together):
            raise RuntimeError("infinite")
        return [predicted(case) for case in together]


def run(recorder, cases, most):
    found = overlapped(cases, recorder.prepare, recorder.predict, most_together=lambda _: most)
    return {outcome.case: outcome.outcome for outcome in found}


def test_cases_go_one_by_one_where_nothing_is_gained_by_more(cases):
    recorder = Recorder()
    run(recorder, cases, 1)
    assert recorder.groups == list("abcdefg")


def test_what_has_been_read_goes_together(cases):
    recorder = Recorder()
    outcomes = run(recorder, cases, 4)
    assert 1 < max(map(len, recorder.groups)) <= 4
    assert "".join(recorder.groups) == "abcdefg"
    assert set(outcomes.values()) == {PREDICTED}


def test_large_cases_may_follow_small_ones_that_go_together(cases):
    recorder = Recorder()
    found = overlapped(
        cases,
        recorder.prepare,
        recorder.predict,
        most_together=lambda case: 6 if case.name == "a" else 1,
    )
    assert [outcome.outcome for outcome in found] == [PREDICTED] * 7
    assert "".join(recorder.groups) == "abcdefg"


@pytest.mark.parametrize(
    ("size", "most"), [(1, 7), (BYTES_READ_AHEAD // 3, 3), (2 * BYTES_READ_AHEAD, 2)]
)
def test_few_large_cases_are_in_memory_at_once(cases, size, most):
    begun, done, in_memory = [], [], []

    def prepare(case):
        begun.append(case.name)
        return case

    def predict(group, _writers):
        time.sleep(0.1)  # all that may be read is read by then
        in_memory.append(len(begun) - len(done))
        done.extend(group)
        return [predicted(case) for case in group]

    found = overlapped(cases, prepare, predict, most_together=lambda _: 6, size=lambda _: size)
    assert len(list(found)) == 7
    assert max(in_memory) == pytest.approx(most, abs=1)
    assert max(in_memory) <= most


def test_a_case_whose_size_cannot_be_told_takes_no_other_along(cases):
    def size(case):
        raise ValueError(case.name)

    recorder = Recorder("d")
    found = overlapped(
        cases, recorder.prepare, recorder.predict, most_together=lambda _: 6, size=size
    )
    outcomes = {outcome.case: outcome.outcome for outcome in found}
    assert outcomes.pop("d") == FAILED
    assert set(outcomes.values()) == {PREDICTED}


@pytest.mark.parametrize("bad", ["d", "D"], ids=["while reading", "while predicting"])
def test_a_case_that_fails_takes_no_other_along(cases, bad):
    recorder = Recorder(bad)
    outcomes = run(recorder, cases, 6)
    assert max(map(len, recorder.groups)) > 1
    assert [case for case, outcome in outcomes.items() if outcome == FAILED] == ["d"]
    assert len(outcomes) == 7


def test_several_threads_read_at_once(cases):
    meeting = threading.Barrier(3)

    def prepare(case):
        if case.name in "abc":
            meeting.wait(60)
        return case

    outcomes = list(overlapped(cases, prepare, Recorder().predict, readers=3))
    assert [outcome.outcome for outcome in outcomes] == [PREDICTED] * 7


def batches_of(size, side_by_side=None):
    batches = TileBatches(torch.device("cpu"), side_by_side)
    batches.size = size
    return batches


def test_masks_of_images_that_are_predicted_together_are_those_of_each_alone(cases, tmp_path):
    model = plain_model(tmp_path / "model")
    ways = {"alone": batches_of(1), "batch": batches_of(16), "side": batches_of(1, SideBySide(3))}
    written = {}
    for name, batches in ways.items():
        predictor = MedSegPredictor.from_folder(model)
        predictor.batches = batches
        output = tmp_path / f"masks_{name}"
        manifest = predict_folder(predictor, tmp_path, output)
        assert not manifest.failed
        written[name] = {file.name: file.read_bytes() for file in output.glob("*.nii.gz")}
    assert len(written["alone"]) == len(cases)
    assert written["alone"] == written["batch"] == written["side"]


def test_small_images_together_fill_a_batch_and_large_ones_go_alone(tmp_path):
    predictor = MedSegPredictor.from_folder(plain_model(tmp_path / "model"), mirroring=False)
    predictor.batches = batches_of(1)
    assert predictor.most_together((1, 16, 24)) == 1
    predictor.batches.size = 4
    assert predictor.most_together((1, 16, 24)) == 4
    assert predictor.most_together((1, 16, 200)) == 1
    assert predictor.most_together((5, 16, 24)) == 1
