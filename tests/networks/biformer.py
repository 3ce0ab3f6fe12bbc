"""A stand-in for the ImageNet weights that HeteroMedSeg starts from."""

from __future__ import annotations

import torch


def biformer_entries() -> dict[str, torch.Tensor]:
    """Entries with the layout of BiFormer-Base's, at a sixth of its widths."""
    widths, depths = (16, 32, 64, 128), (4, 4, 18, 4)
    shapes = {"head.weight": (1000, 128), "norm.weight": (128,)}
    pairs = {"0.0": (3, 8), "0.3": (8, 16), "1.0": (16, 32), "2.0": (32, 64), "3.0": (64, 128)}
    for place, (before, after) in pairs.items():
        stage, position = place.split(".")
        convolution, norm = (f"downsample_layers.{stage}.{int(position) + n}." for n in (0, 1))
        shapes |= {convolution + "weight": (after, before, 3, 3), convolution + "bias": (after,)}
        entries = ("weight", "bias", "running_mean", "running_var")
        shapes |= {norm + entry: (after,) for entry in entries}
        shapes[norm + "num_batches_tracked"] = ()
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            start = f"stages.{stage}.{block}."
            norms = [f"{start}norm{n}.{entry}" for n in (1, 2) for entry in ("weight", "bias")]
            shapes |= dict.fromkeys(norms, (width,))
            shapes[start + "mlp.0.weight"] = (3 * width, width)
            shapes[start + "attn.lepe.bias"] = (width,)
    torch.manual_seed(1)
    return {name: torch.rand(shape) for name, shape in shapes.items()}
