"""Steps that do not fit into memory. The memory is that of a layer of the test's network."""

import itertools

import pytest
import torch

from nnmedseg.errors import UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.training.accumulation import is_out_of_memory, part_of

from .faulty_trainers import NoImageTrainer, OneImageTrainer, SmallMemory, TwoImagesTrainer
from .tiny_workspace import batch, new_trainer


class BatchNormTrainer(TwoImagesTrainer):
    """With batch norms, before the layer that lacks memory."""

    norm = torch.nn.BatchNorm2d


def pixelwise(trainer):
    """Give a trainer a loss that is a mean over images, which parts add up to exactly."""
    trainer.loss = lambda output, target: torch.nn.functional.cross_entropy(
        output, target[:, 0].long()
    )
    return trainer


def with_memory(trainer, images):
    trainer.network.middle = SmallMemory(images)
    return trainer


@pytest.mark.parametrize("images", [4, 5])
def test_parts_give_the_gradient_of_the_whole_batch(tiny, images):
    divided, whole = (pixelwise(new_trainer(TwoImagesTrainer, tiny)) for _ in range(2))
    with_memory(whole, images)
    losses = [trainer.train_step(batch(1, images))["loss"] for trainer in (divided, whole)]
    assert losses[0] == pytest.approx(losses[1])
    for ours, expected in zip(
        divided.network.parameters(), whole.network.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_batches_are_halved_until_they_fit_and_stay_so(tiny):
    trainer = new_trainer(OneImageTrainer, tiny)
    write_json({}, f"{trainer.output_folder}/run.json")
    trainer.train_step(batch(0))
    trainer.train_step(batch(1))
    assert trainer.images_at_once == 1
    events = read_json(f"{trainer.output_folder}/run.json")["events"]
    assert [event["images_at_once"] for event in events] == [2, 1]
    assert "batches of 4 are taken in parts of at most 2" in events[0]["event"]


def test_a_resumed_training_begins_with_parts_that_fit(tiny):
    trainer = new_trainer(TwoImagesTrainer, tiny)
    trainer.train_step(batch(0))
    path = f"{trainer.output_folder}/checkpoint_latest.pth"
    trainer.save_checkpoint(path)
    resumed = new_trainer(TwoImagesTrainer, tiny)
    resumed.load_checkpoint(path)
    assert resumed.images_at_once == 2


def test_what_has_not_fitted_leaves_no_trace_in_the_statistics(tiny):
    trainer, small = (new_trainer(BatchNormTrainer, tiny) for _ in range(2))
    trainer.train_step(batch(0))
    small.images_at_once = 2
    small.train_step(batch(0))
    for name, value in small.network.state_dict().items():
        assert torch.equal(trainer.network.state_dict()[name], value), name


@torch.no_grad()
def test_the_metrics_of_parts_are_those_of_the_whole_batch(tiny):
    divided, whole = (pixelwise(new_trainer(TwoImagesTrainer, tiny)) for _ in range(2))
    with_memory(whole, 5)
    results = [trainer.validation_step(batch(1, 5)) for trainer in (divided, whole)]
    assert divided.images_at_once is not None
    assert results[0].pop("loss") == pytest.approx(results[1].pop("loss"))
    assert {name: list(values) for name, values in results[0].items()} == {
        name: list(values) for name, values in results[1].items()
    }


@torch.no_grad()
def test_a_validation_in_parts_leaves_the_statistics_as_training_has_left_them(tiny):
    trainer = with_memory(new_trainer(BatchNormTrainer, tiny), 4)
    with torch.enable_grad():
        trainer.train_step(batch(0))
    before = trainer.network.norm.running_mean.clone()
    with_memory(trainer, 2).network.eval()
    trainer.validation_step(batch(1))
    assert trainer.images_at_once == 2
    assert torch.equal(trainer.network.norm.running_mean, before)


def test_where_no_image_fits_the_message_says_what_to_do(tiny):
    trainer = new_trainer(NoImageTrainer, tiny)
    with pytest.raises(UserError, match="does not fit into the memory") as caught:
        trainer.train_step(batch(0))
    assert "--patch-size" in caught.value.mend
    assert "--gpu-memory" in caught.value.mend


def test_a_batch_norm_that_would_see_a_single_number_is_a_message_too(tiny):
    trainer = new_trainer(OneImageTrainer, tiny)
    trainer.network.middle = torch.nn.Sequential(
        SmallMemory(1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.BatchNorm2d(4),
        torch.nn.Upsample(16),
    )
    with pytest.raises(UserError, match="not even in the smallest parts: Expected more than 1"):
        trainer.train_step(batch(0))


def test_other_errors_are_raised_as_they_are(tiny):
    trainer = new_trainer(TwoImagesTrainer, tiny)
    bad = batch(0)
    bad["data"] = bad["data"][:, :2]
    with pytest.raises(RuntimeError, match="channels"):
        trainer.train_step(bad)
    assert trainer.images_at_once is None


def test_memory_that_really_lacks_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_each_image_is_in_one_part_and_the_last_ones_are_spread(parts):
    images = torch.arange(5)
    divided = [part_of([images], index, parts)[0].tolist() for index in range(parts)]
    assert sorted(itertools.chain(*divided)) == images.tolist()
    assert max(map(len, divided)) - min(map(len, divided)) <= 1
    assert parts == 1 or not {3, 4} <= set(divided[-1])
