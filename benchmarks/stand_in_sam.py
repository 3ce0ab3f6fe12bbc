"""A small SAM for machines that have neither its weights nor the time for it.

    python benchmarks/stand_in_sam.py --network-options FILE --output stand_in.pth

ProMISe trains nothing of SAM, so a SAM with random weights leaves it nothing to learn with. This
one is taught to answer points, on the photographs of the tests: half of the time the points are in
the lesion, otherwise around it, and it must give what they are in. The file is one for
``nnmedseg_train --encoder-weights FILE``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from nnmedseg.networks import create_network

DATA = Path(__file__).parents[1] / "tests" / "data" / "ISIC2018"
IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"


def read(size: int) -> tuple[Tensor, Tensor]:
    """Return images (N, 3, size, size), each with mean 0 and deviation 1, and masks (N, 1, ...)."""
    images, masks = [], []
    for path in sorted((DATA / IMAGES).glob("*.jpg")):
        mask = DATA / MASKS / f"{path.stem}_segmentation.png"
        pixels = np.asarray(Image.open(path).resize((size, size)), np.float32)
        images.append((pixels - pixels.mean((0, 1))) / pixels.std((0, 1)))
        masks.append(np.asarray(Image.open(mask).resize((size, size), Image.Resampling.NEAREST)))
    as_tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return as_tensor, torch.from_numpy(np.stack(masks) > 0)[:, None].float()


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Return cross entropy and 1 - soft Dice."""
    probabilities = logits.sigmoid()
    both = (probabilities * target).sum((2, 3))
    dice = 2 * both / (probabilities + target).sum((2, 3)).clamp_min(1e-3)
    entropy = functional.binary_cross_entropy_with_logits(logits, target)
    return entropy + 1 - dice.mean()


def main() -> int:
    """Train, print the loss now and then, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network-options", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64, help="of the images, pixels")
    parser.add_argument("--batches", type=int, default=1200)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    random = np.random.RandomState(0)
    arguments = json.loads(options.network_options.read_text())["promise_apm"]
    network = create_network("promise_apm", input_channels=3, num_classes=1, **arguments)
    network.sam.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.sam.parameters(), options.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, options.batches)
    images, masks = read(options.size)
    for batch in range(1, options.batches + 1):
        chosen = random.choice(len(images), options.batch_size, replace=False)
        inverted = torch.from_numpy(random.rand(options.batch_size) < 0.5).float()
        target = (masks[chosen] - inverted[:, None, None, None]).abs()
        points, labels = network.sample_points(target, random)
        logits = network(images[chosen], points, labels)
        loss = loss_of(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if batch % 50 == 0:
            print(f"batch {batch}: loss {loss.item():.3f}", flush=True)
    torch.save(network.sam.state_dict(), options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
