"""In which numbers a network computes, and compiled networks."""

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn import Sequential

from nnmedseg.cli import train
from nnmedseg.errors import UserError
from nnmedseg.training.pretrained import unwrapped

from .faulty_trainers import KeptTypeTrainer, TinyTrainer
from .tiny_workspace import PLANS, PLUGIN, batch, new_trainer


def command(folders, *options):
    return train.main(
        ["900", "2d", "0", "-tr", "TinyTrainer", "-p", PLANS, "--plugin", str(PLUGIN),
         "--epochs", "1", "--iterations", "2", "--device", "cpu",
         "--workspace", str(folders.raw.parent), *options]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("mixed", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)],
)
def test_the_network_computes_in_the_precision_and_the_loss_in_fp32(tiny, precision, dtype):
    trainer = new_trainer(KeptTypeTrainer, tiny, precision=precision)
    losses = []
    seen, of_loss = [], trainer.loss

    def loss(output, target):
        seen.append(output.dtype)
        return of_loss(output, target)

    trainer.loss = loss
    for _ in range(3):
        losses.append(float(trainer.train_step(batch(0))["loss"]))
        assert trainer.network.middle.dtype == dtype
    trainer.network.middle.dtype = None
    with torch.no_grad():
        trainer.validation_step(batch(0))
    assert trainer.network.middle.dtype == dtype
    assert set(seen) == {torch.float32}
    assert losses[2] < losses[0]


def test_fp16_without_cuda_is_refused_with_what_works(tiny, capsys):
    assert command(tiny, "--precision", "fp16") == 2
    message = capsys.readouterr().err
    assert "fp16 needs a CUDA device" in message
    assert "--precision bf16" in message


def test_workers_and_a_seed_contradict_each_other(tiny, capsys):
    assert command(tiny, "--workers", "2", "--seed", "1") == 2
    assert "loads its data in one process" in capsys.readouterr().err


class OwnStepTrainer(TinyTrainer):
    def train_step(self, batch):
        return {"loss": 7.0}


def test_a_trainer_with_its_own_step_keeps_it(tiny):
    assert new_trainer(OwnStepTrainer, tiny).train_step(batch(0)) == {"loss": 7.0}


def test_a_trainer_with_its_own_step_refuses_what_it_would_pass_over(tiny):
    with pytest.raises(UserError, match="has its own training step"):
        new_trainer(OwnStepTrainer, tiny, precision="bf16")


@pytest.mark.slow
@torch.no_grad()
def test_compile_compiles_the_network(tiny):
    torch._dynamo.reset()
    counters.clear()
    trainer = new_trainer(TinyTrainer, tiny, compile_network=True)
    image = batch(0)["data"]
    logits = trainer.network.eval()(image)
    assert counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(logits, unwrapped(trainer.network)(image))


def test_no_compile_does_not(tiny):
    assert isinstance(new_trainer(TinyTrainer, tiny, compile_network=False).network, Sequential)


def test_a_compiler_that_fails_is_a_message(tiny, monkeypatch):
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    trainer = new_trainer(TinyTrainer, tiny, compile_network=True)
    with pytest.raises(UserError, match="cannot be compiled") as caught:
        trainer.train_step(batch(0))
    assert "--no-compile" in caught.value.mend
