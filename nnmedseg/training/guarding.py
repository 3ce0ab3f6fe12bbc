"""Training steps that a fault in one batch, or too little memory, does not end.

The step is nnU-Net's: forward, loss, backward, clipping, optimiser. Around it:

* Where the loss or a gradient is not finite, the batch is skipped. Three in a row bring back the
  weights and optimiser state of the last checkpoint, and safer arithmetic; epoch, learning rate
  and log go on. Ten since the last epoch without any end the run.
* Infinite gradients in fp16 are no fault as long as the loss is finite and its scale at least 1:
  so the scaler finds the scale, in nnU-Net too.
* A batch that does not fit into memory is taken in parts, whose gradients are added up with the
  weight of their share of images. Two things are then of a part instead of the whole batch: the
  statistics of batch norms, and the Dice loss where it is over the batch (nnU-Net's 2D plans), so
  that the gradient is not exactly that of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.helpers import empty_cache

from nnmedseg.errors import NonFiniteError, UserError, list_some
from nnmedseg.training.accumulation import (
    does_not_fit,
    is_out_of_memory,
    is_too_small_for_batch_norm,
    part_of,
)
from nnmedseg.training.compiling import compiling_explained
from nnmedseg.training.loader_watch import WatchedLoadingTrainer
from nnmedseg.training.nonfinite import NormStatistics, Response, first_nonfinite
from nnmedseg.training.precision import as_float32, autocast
from nnmedseg.training.pretrained import unwrapped
from nnmedseg.training.recovering import RecoveringTrainer

Batch = dict[str, Any]
T = TypeVar("T")


class GuardedTrainer(WatchedLoadingTrainer, RecoveringTrainer):
    """Skips faulty batches, divides those that are too large, and computes in any precision.

    Attributes:
        gradient_clipping: Largest norm of all gradients together, or None.
        compile_network: Whether to compile, or None for the trainer's own choice.
    """

    gradient_clipping: float | None = 12.0
    compile_network: bool | None = None
    network: Any
    loss: Any
    _statistics: NormStatistics

    def before_step(self) -> None:
        """Do nothing; for schedules that change within an epoch."""

    def forward_for_training(self, data: torch.Tensor, target: Any) -> Any:
        """Return what the loss takes.

        Args:
            data: Images ``(B, C, H, W)`` or with depth.
            target: Labels ``(B, 1, H, W)``, or a list of them at several resolutions.
        """
        return self.network(data)

    def forward_for_validation(self, data: torch.Tensor, target: Any) -> Any:
        """Return what loss and pseudo Dice take in validation."""
        return self.network(data)

    def initialize(self) -> None:
        """Build network, optimiser and loss.

        Raises:
            UserError: The device does not compute in the recipe's precision, or the trainer has
                a step of its own that knows nothing of it.
        """
        if self._steps_on_its_own and self.precision != "mixed":
            raise UserError(
                f"{type(self).__name__} has its own training step, in nnU-Net's mixed precision",
                where=f"--precision {self.precision}",
                mend="leave the option out",
            )
        super().initialize()

    def _do_i_compile(self) -> bool:
        if self.compile_network is None:
            return super()._do_i_compile()
        return self.compile_network

    def on_train_start(self) -> None:
        """Begin."""
        super().on_train_start()
        self._statistics = NormStatistics(self.network)

    def train_step(self, batch: Batch) -> dict[str, Any]:
        """Train on one batch.

        Returns:
            ``loss``, which is NaN where the batch was skipped.

        Raises:
            NonFiniteError: Too many batches had to be skipped.
            UserError: Not even a part of one image fits into memory, or the network cannot be
                compiled.
        """
        if self._steps_on_its_own:
            return super().train_step(batch)
        self.before_step()
        data, target = self._on_device(batch)
        loss = self._in_parts_that_fit(len(data), lambda n: self._backward(data, target, n))
        with self._memory_explained():
            value, is_fault = self._step_unless_nonfinite(loss)
        if not is_fault:
            self._faults.good_step()
            return {"loss": np.float32(value)}
        self._statistics.restore()
        self._respond(self._faults.fault(), batch)
        return {"loss": np.float32(np.nan)}

    @property
    def _steps_on_its_own(self) -> bool:
        """Whether this is one of nnU-Net's trainers that have their own training step."""
        return super().train_step.__func__ is not nnUNetTrainer.train_step

    def _on_device(self, batch: Batch) -> tuple[torch.Tensor, Any]:
        data, target = batch["data"], batch["target"]
        if isinstance(target, list):
            target = [each.to(self.device, non_blocking=True) for each in target]
        else:
            target = target.to(self.device, non_blocking=True)
        return data.to(self.device, non_blocking=True), target

    def _backward(self, data: torch.Tensor, target: Any, parts: int) -> torch.Tensor:
        """Add up the gradients of the parts of a batch, and return its loss, a scalar."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for index in range(parts):
            part = part_of(data, index, parts)
            loss = self._loss_of(part, part_of(target, index, parts))
            if parts > 1:
                loss = loss * (len(part) / len(data))
            (loss if self.grad_scaler is None else self.grad_scaler.scale(loss)).backward()
            total += loss.detach().reshape(())
        return total

    def _loss_of(self, data: torch.Tensor, target: Any) -> torch.Tensor:
        output = self._run(self.forward_for_training, data, target)
        return self._score(self.loss, output, target)

    def _run(self, forward: Callable[..., Any], data: torch.Tensor, target: Any) -> Any:
        with autocast(self.precision, self.device):
            output = forward(data, target)
        return as_float32(output) if self.precision == "bf16" else output

    def _score(self, loss: Callable[..., torch.Tensor], output: Any, target: Any) -> torch.Tensor:
        # Sums over pixels need more than the 8 bits of bf16.
        precision = "fp32" if self.precision == "bf16" else self.precision
        with autocast(precision, self.device):
            return loss(output, target)

    def _in_parts_that_fit(self, images: int, step: Callable[[int], T]) -> T:
        """Run ``step(parts)`` with as few parts as fit into memory.

        The statistics of batch norms from before it are kept, in case it is for nothing.

        Raises:
            UserError: Not even single images do.
        """
        self._statistics.keep()
        while True:
            at_once = min(self.images_at_once or images, images)
            try:
                with compiling_explained():
                    return step(math.ceil(images / at_once))
            except (RuntimeError, ValueError) as error:
                too_small = self.images_at_once is not None and is_too_small_for_batch_norm(error)
                if not too_small and not is_out_of_memory(error):
                    raise
                reason = str(error)
            # Only now are the activations free, which the traceback has held.
            self.optimizer.zero_grad(set_to_none=True)
            self._statistics.restore()
            empty_cache(self.device)
            if self.is_ddp:
                # Those that wait for this one's gradients cannot be told to begin anew.
                why = "and batches of several processes are not divided further"
                raise does_not_fit(self.device, reason, why)
            if too_small or at_once == 1:
                raise does_not_fit(self.device, reason, "not even in the smallest parts")
            self.images_at_once = math.ceil(at_once / 2)
            self._note(
                f"out of memory: batches of {images} are taken in parts of at most "
                f"{self.images_at_once} from now on; the optimiser still sees whole ones, batch "
                "norms and a Dice loss over the batch see the parts",
                images_at_once=self.images_at_once,
            )

    @contextmanager
    def _memory_explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            why = "in which the state of the optimiser has no place"
            raise does_not_fit(self.device, str(error), why) from error

    def _step_unless_nonfinite(self, loss: torch.Tensor) -> tuple[float, bool]:
        """Clip the gradients and step; return the loss, and whether the batch is at fault."""
        if self.grad_scaler is not None:
            self.grad_scaler.unscale_(self.optimizer)
        norm = self._clip().to(loss.device)
        values = torch.stack([loss.float(), norm.float()])
        faults = (~torch.isfinite(values)).float()
        if self.is_ddp:
            torch.distributed.all_reduce(faults)  # all processes skip, or none does
        # nnU-Net copies the loss here too: this is the only wait for the device.
        value, _, bad_losses, bad_norms = torch.cat([values, faults]).tolist()
        if self.grad_scaler is None:
            if not bad_losses and not bad_norms:
                self.optimizer.step()
            return value, bool(bad_losses or bad_norms)
        if not bad_losses:
            self.grad_scaler.step(self.optimizer)  # does nothing where a gradient is infinite
        self.grad_scaler.update()
        is_search = not bad_losses and (not bad_norms or self.grad_scaler.get_scale() >= 1)
        return value, not is_search

    def _clip(self) -> torch.Tensor:
        """Clip the gradients, and return the norm that they had."""
        if self.gradient_clipping is not None:
            return torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clipping)
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _respond(self, response: Response, batch: Batch) -> None:
        """Do what a faulty batch asks for.

        Raises:
            NonFiniteError: It was one too many.
        """
        self.skipped_batches += 1
        self.print_to_log_file(
            f"Skipped a batch whose loss or gradients were not finite: {_cases_of(batch)}"
        )
        if response is Response.STOP:
            raise self._diagnosed(batch)
        if response is Response.GO_BACK:
            self._go_back()

    def _diagnosed(self, batch: Batch) -> NonFiniteError:
        """Return the error that names layer and cases."""
        data, target = self._on_device(batch)
        whole, self.network = self.network, unwrapped(self.network)
        parts = math.ceil(len(data) / (self.images_at_once or len(data)))
        place = None
        try:
            for index in range(parts):
                part, its_target = part_of(data, index, parts), part_of(target, index, parts)
                run = partial(self._scaled_loss, part, its_target)
                place = first_nonfinite(self.network, part, run) or place
        finally:
            self.network = whole
            self.optimizer.zero_grad(set_to_none=True)
            self._statistics.restore()
        first = f"first in {place}" if place else "though all was finite when it was repeated"
        return NonFiniteError(
            f"{self._faults.since_good_epoch} batches gave no finite loss or gradients, the last "
            f"of them {first}; {_cases_of(batch)}",
            where=f"epoch {self.current_epoch + 1} of {self.output_folder}",
            mend="look at these cases, or train with --precision fp32 or a smaller --lr; the same "
            "command goes on from the last checkpoint",
        )

    def _scaled_loss(self, data: torch.Tensor, target: Any) -> torch.Tensor:
        loss = self._loss_of(data, target)
        return loss if self.grad_scaler is None else self.grad_scaler.scale(loss)

    def validation_step(self, batch: Batch) -> dict[str, Any]:
        """Return loss and counts of one batch, with nnU-Net's metrics in the recipe's precision.

        Raises:
            UserError: Not even a part of one image fits into memory.
        """
        if self._steps_on_its_own:
            return super().validation_step(batch)
        images = len(batch["data"])

        def in_parts(parts: int) -> list[tuple[float, dict[str, Any]]]:
            divided = [
                {name: part_of(batch[name], i, parts) for name in batch} for i in range(parts)
            ]
            return [(len(part["data"]) / images, self._validate(part)) for part in divided]

        results = self._in_parts_that_fit(images, in_parts)
        if len(results) == 1:
            return results[0][1]
        counts = {
            name: sum(result[name] for _, result in results)
            for name in results[0][1]
            if name != "loss"
        }
        return {"loss": np.float32(sum(share * each["loss"] for share, each in results)), **counts}

    def _validate(self, batch: Batch) -> dict[str, Any]:
        """Run nnU-Net's step with network and loss in our precision."""
        _, target = self._on_device(batch)
        network, loss = self.network, self.loss

        def run(data: torch.Tensor) -> Any:
            self.network = network
            return self._run(self.forward_for_validation, data, target)

        self.network = run
        self.loss = partial(self._score, loss)
        try:
            return super().validation_step(batch)
        finally:
            self.network, self.loss = network, loss


def _cases_of(batch: Batch) -> str:
    return f"cases {list_some(list(batch.get('keys', ['unknown'])))}"
