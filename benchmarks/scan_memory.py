"""Extra memory of a training pass of the selective scan, in a process of its own.

It is what the pass needs beyond its inputs, its output and all gradients: the peak of the process
during forward and backward, less what it held before with the inputs and the incoming gradient in
place, less the bytes of the output and of the gradients returned. Before that a short pass runs, so
that what libraries load or compile on first use does not count, and the peak starts anew. The
process is started with ``MALLOC_MMAP_THRESHOLD_``, with which glibc hands freed blocks back to the
system at once: what was freed does not count either.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from memory import memory, release
from scan_pass import ours, random_inputs, training_pass

WARM_UP_LENGTH = 2048
SMALLEST_MAPPED_BLOCK = 2**16


@dataclass(frozen=True)
class Task:
    """A form of the scan and the size of its inputs."""

    form: str
    batch: int
    length: int
    channels: int
    threads: int


def extra_bytes(task: Task) -> int | None:
    """Start the process and return what it measured; ``None`` where the system does not tell."""
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(asdict(task))],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(SMALLEST_MAPPED_BLOCK)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{Path(__file__).name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(task: Task) -> int | None:
    """Measure in this process."""
    device, operation = torch.device("cpu"), ours(task.form)
    training_pass(operation, random_inputs(task.batch, WARM_UP_LENGTH, task.channels))()
    inputs = random_inputs(task.batch, task.length, task.channels)
    incoming = torch.ones_like(inputs[0])
    release(device)
    before = memory(device)
    out = operation(*inputs)
    gradients = torch.autograd.grad(out, inputs, incoming)
    after = memory(device)
    if before is None or after is None:
        return None
    return after[1] - before[0] - sum(x.nbytes for x in (out, *gradients))


def main() -> None:
    """Measure what the argument asks for, and answer in the last line of the output."""
    task = Task(**json.loads(sys.argv[1]))
    torch.set_num_threads(task.threads)
    print(json.dumps(measure(task)))


if __name__ == "__main__":
    main()
