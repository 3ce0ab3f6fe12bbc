"""How many threads and processes a training has, and which random numbers they draw."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from nnmedseg.allocation import keep_freed_memory
from nnmedseg.cores import cpu_count, thread_count
from nnmedseg.training.place import Place
from nnmedseg.training.settings import RunSettings


def set_threads(device: torch.device, settings: RunSettings, place: Place) -> None:
    """Share the cores between the network and the data loaders; a seed asks for one loader.

    The processes on this machine have an equal share each, and draw different random numbers.
    """
    seed = settings.seed
    cores = max(1, cpu_count() // place.local_size)
    if device.type == "cpu":
        # torchrun sets OMP_NUM_THREADS to 1 for whoever has not set it.
        torch.set_num_threads(thread_count() if place.local_size == 1 else cores)
        keep_freed_memory()
        # The network itself uses all cores: more than a few loaders would only slow it down.
        os.environ["nnUNet_n_proc_DA"] = str(max(1, cores // 4))
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = seed is None
        torch.backends.cudnn.deterministic = seed is not None
        loaders = int(os.environ.get("nnUNet_n_proc_DA", cores))
        os.environ["nnUNet_n_proc_DA"] = str(min(loaders, cores))
    if settings.workers is not None:
        os.environ["nnUNet_n_proc_DA"] = str(settings.workers)
    if seed is not None:
        os.environ["nnUNet_n_proc_DA"] = "0"
        random.seed(seed + place.rank)
        np.random.seed(seed + place.rank)  # noqa: NPY002 - the augmentation's global generator
        torch.manual_seed(seed + place.rank)
    elif place.rank > 0:
        torch.manual_seed(torch.initial_seed() + place.rank)  # PyTorch begins alike everywhere
