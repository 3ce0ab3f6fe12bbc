"""Losses and gradients that are not finite."""

import copy
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.cli import train
from nnmedseg.errors import NonFiniteError
from nnmedseg.files import read_json, write_json
from nnmedseg.training.checkpoints import LATEST
from nnmedseg.training.nonfinite import FaultCounter, Response

from .faulty_trainers import (
    BadGradientsTrainer,
    Fault,
    NanTrainer,
    OneBadGradientTrainer,
    OneNanTrainer,
    TinyTrainer,
)
from .tiny_workspace import PLANS, PLUGIN, batch, new_trainer


def state_of(trainer):
    return copy.deepcopy(trainer.network.state_dict())


def train_on(batches, trainer):
    for each in batches:
        trainer.train_step(each)


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def with_large_gradients(trainer):
    """Let gradients exceed nnU-Net's limit of 12."""
    for parameter in trainer.network.parameters():
        parameter.register_hook(lambda gradient: gradient * 1e3)
    return trainer


def test_without_faults_the_step_is_nnunets(tiny):
    ours, stock = (with_large_gradients(new_trainer(TinyTrainer, tiny)) for _ in range(2))
    losses = [float(ours.train_step(batch(seed))["loss"]) for seed in range(2)]
    expected = [float(nnUNetTrainer.train_step(stock, batch(seed))["loss"]) for seed in range(2)]
    assert losses == expected
    assert same(state_of(ours), state_of(stock))


@pytest.mark.parametrize("clipping", [12.0, 0.1, None])
def test_gradients_are_clipped_as_the_recipe_says(tiny, clipping):
    trainer = with_large_gradients(new_trainer(TinyTrainer, tiny, gradient_clipping=clipping))
    trainer.train_step(batch(0))
    norm = torch.nn.utils.get_total_norm([p.grad for p in trainer.network.parameters()])
    assert norm == pytest.approx(clipping, rel=1e-3) if clipping else norm > 20


@pytest.mark.parametrize("trainer_class", [OneNanTrainer, OneBadGradientTrainer])
def test_a_faulty_batch_leaves_nothing_behind(tiny, trainer_class):
    trainer = new_trainer(trainer_class, tiny)
    trainer.train_step(batch(0))
    before = state_of(trainer)
    momentum = copy.deepcopy(trainer.optimizer.state_dict()["state"])
    loss = trainer.train_step(batch(1))["loss"]
    assert torch.isnan(torch.tensor(loss))
    assert trainer.skipped_batches == 1
    assert same(before, state_of(trainer))  # running statistics are among it
    after = trainer.optimizer.state_dict()["state"]
    assert all(same(momentum[index], after[index]) for index in momentum)
    assert trainer.train_step(batch(2))["loss"] > 0
    assert not same(before, state_of(trainer))


def test_the_loss_of_an_epoch_is_that_of_the_batches_trained_on(tiny):
    trainer = new_trainer(OneNanTrainer, tiny)
    outputs = [trainer.train_step(batch(seed)) for seed in range(3)]
    trainer.on_train_epoch_end(outputs)
    expected = (outputs[0]["loss"] + outputs[2]["loss"]) / 2
    assert trainer.logger.get_value("train_losses", step=-1) == pytest.approx(expected)
    assert trainer.skipped_in_epoch == 1


def test_skipped_batches_are_in_the_log(tiny):
    trainer = new_trainer(OneNanTrainer, tiny)
    trainer.on_train_epoch_end([trainer.train_step(batch(seed)) for seed in range(3)])
    log = Path(trainer.log_file).read_text()
    assert "not finite: cases case_0, case_1, case_2, case_3" in log
    assert "Skipped batches: 1 of 3" in log


def spoil_from_now_on(trainer):
    fault = Fault(range(10**6))
    fault.train()
    trainer.network.middle = fault


def test_three_in_a_row_bring_back_the_last_checkpoint(tiny):
    trainer = new_trainer(TinyTrainer, tiny)
    trainer.train_step(batch(0))
    saved, momentum = state_of(trainer), copy.deepcopy(trainer.optimizer.state_dict())
    trainer.save_checkpoint(f"{trainer.output_folder}/{LATEST}")
    write_json({"seed": 1}, f"{trainer.output_folder}/run.json")
    trainer.current_epoch = 2
    trainer.optimizer.param_groups[0]["lr"] = 0.005
    trainer.train_step(batch(1))
    spoil_from_now_on(trainer)
    for seed in range(2):
        trainer.train_step(batch(seed))
    assert not same(saved, state_of(trainer))
    trainer.train_step(batch(2))
    assert same(saved, state_of(trainer))
    state = trainer.optimizer.state_dict()
    assert all(same(momentum["state"][i], state["state"][i]) for i in momentum["state"])
    assert state["param_groups"][0]["lr"] == 0.005
    assert trainer.current_epoch == 2
    record = read_json(f"{trainer.output_folder}/run.json")
    assert record["seed"] == 1
    assert "are again those of epoch 1" in record["events"][0]["event"]


def test_without_a_checkpoint_three_in_a_row_bring_back_the_start(tiny):
    trainer = new_trainer(TinyTrainer, tiny)
    start = state_of(trainer)
    trainer.train_step(batch(0))
    spoil_from_now_on(trainer)
    for seed in range(3):
        trainer.train_step(batch(seed))
    assert same(start, state_of(trainer))
    assert not trainer.optimizer.state


def test_a_good_batch_in_between_keeps_the_weights(tiny):
    trainer = new_trainer(TinyTrainer, tiny)
    trainer.network.middle = Fault({0, 1, 3, 4})
    for seed in range(5):
        trainer.train_step(batch(seed))
    assert trainer.skipped_batches == 4
    assert not trainer.events


def test_going_back_lowers_the_risk_of_the_precision_for_good(tiny):
    trainer = new_trainer(TinyTrainer, tiny, precision="bf16")
    spoil_from_now_on(trainer)
    for seed in range(3):
        trainer.train_step(batch(seed))
    assert trainer.precision == "fp32"
    assert "fp32 instead of bf16 from now on" in trainer.events[0]["event"]
    trainer.save_checkpoint(f"{trainer.output_folder}/{LATEST}")
    resumed = new_trainer(TinyTrainer, tiny, precision="bf16")
    resumed.load_checkpoint(f"{trainer.output_folder}/{LATEST}")
    assert resumed.precision == "fp32"
    assert resumed.skipped_batches == 3
    assert resumed.events == trainer.events


@pytest.mark.parametrize(
    ("trainer_class", "place"),
    [
        (NanTrainer, "the output of layer middle"),
        (BadGradientsTrainer, "the gradient of the output of layer norm"),
    ],
)
def test_ten_end_the_run_and_name_layer_and_cases(tiny, trainer_class, place):
    trainer = new_trainer(trainer_class, tiny)
    with pytest.raises(NonFiniteError) as caught:
        train_on([batch(seed) for seed in range(13)], trainer)
    assert trainer.skipped_batches == 10
    assert f"first in {place}; cases case_0, case_1, case_2, case_3" in caught.value.what


def test_images_that_are_not_finite_are_named_as_the_reason(tiny):
    trainer = new_trainer(TinyTrainer, tiny)
    bad = batch(0)
    bad["data"][1, 0, 0, 0] = torch.inf
    with pytest.raises(NonFiniteError, match="first in the images themselves"):
        train_on([bad] * 10, trainer)


def test_infinite_gradients_while_the_scale_is_found_are_no_fault(tiny):
    trainer = new_trainer(BadGradientsTrainer, tiny)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = [x.clone() for x in trainer.network.parameters()]
    train_on([batch(seed) for seed in range(3)], trainer)
    assert trainer.grad_scaler.get_scale() == 1.0
    assert trainer.skipped_batches == 0
    assert all(map(torch.equal, before, trainer.network.parameters()))
    trainer.train_step(batch(3))
    assert trainer.skipped_batches == 1


def test_a_loss_that_is_not_finite_is_a_fault_whatever_the_scale(tiny):
    trainer = new_trainer(OneNanTrainer, tiny)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    train_on([batch(seed) for seed in range(2)], trainer)
    assert trainer.skipped_batches == 1


def test_an_epoch_without_faults_begins_the_count_anew():
    counter = FaultCounter()

    def epoch(faults):
        responses = []
        for _ in range(faults):
            responses.append(counter.fault())
            counter.good_step()
        assert counter.end_epoch() == faults
        return responses

    assert set(epoch(9) + epoch(0) + epoch(9)) == {Response.SKIP}
    assert epoch(1) == [Response.STOP]


def test_the_command_exits_with_3_and_leaves_the_reason(tiny, capsys):
    code = train.main(
        ["900", "2d", "0", "-tr", "NanTrainer", "-p", PLANS, "--plugin", str(PLUGIN),
         "--epochs", "1", "--iterations", "20", "--seed", "1", "--device", "cpu",
         "--precision", "bf16",
         "--workspace", str(tiny.raw.parent)]
    )  # fmt: skip
    assert code == 3
    message = capsys.readouterr().err
    assert "first in the output of layer middle" in message
    assert "Traceback" not in message
    fold = next(tiny.results.glob("*/*/fold_0"))
    events = read_json(fold / "run.json")["events"]
    assert len(events) == 3
    assert "fp32 instead of bf16" in events[0]["event"]
