"""Segment with a model of nnmedseg_export: ``python onnx_runner.py MODEL.onnx IMAGE.npy MASK.npy``.

It needs ONNX Runtime and NumPy alone, and ``onnx_postprocessing.py`` where that was written beside
it. The spacing of a volume follows its mask: Z Y X.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import numpy as np
import onnxruntime

Rules = dict[str, Any]


def segment(model_path: str, image: np.ndarray, spacing: Any = None) -> np.ndarray:
    """Return the label of each pixel of an image (C, H, W) or a volume (C, Z, H, W)."""
    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    rules = json.loads(session.get_modelmeta().custom_metadata_map["nnmedseg"])
    volume = np.float32(image).reshape(len(image), -1, *np.shape(image)[-2:])
    spacing = rules["default_spacing"] if spacing is None else list(spacing)
    if spacing is None:
        raise ValueError("a volume needs its spacing along z, y and x")
    data, back = _preprocess(rules, volume, spacing)
    labels = _to_labels(rules, _tiled_logits(rules, data, session), back)
    if rules["postprocessing"] is not None:
        from onnx_postprocessing import postprocessed  # noqa: PLC0415 - lies there if needed

        labels = postprocessed(labels, rules["postprocessing"], spacing)
    return labels if np.ndim(image) == 4 else labels[0]


def _preprocess(rules: Rules, volume: np.ndarray, spacing: Any) -> tuple[np.ndarray, Any]:
    order, to = rules["transpose_forward"], rules["resize"]
    data, old = volume.transpose(0, *np.add(order, 1)), [spacing[axis] for axis in order]
    shape, mask = data.shape[1:], data.any(0) | (not rules["crop_to_nonzero"])
    where = np.nonzero(mask if mask.any() else ~mask)
    box = (slice(None), *(slice(axis.min(), axis.max() + 1) for axis in where))
    data = np.array(data[box])
    parts = data.swapaxes(0, 1) if rules["intensities_of"] == "slices" else data
    for part, rule in zip(parts, itertools.cycle(rules["intensities"]), strict=False):
        inside = _without_holes(mask[box[1:]]) if rule["masked"] else ...
        values = part[inside].clip(*rule["clip"])
        values = values - _number(rule["minus"], values)
        part[inside] = values / max(_number(rule["by"], values), 1e-8) * rule["times"]
    sides, new = data.shape[1:], [*old[: 3 - len(rules["spacing"])], *rules["spacing"]]
    size = to.get("size") or [round(i / j * k) for i, j, k in zip(old, new, sides, strict=True)]
    if "shorter_side" in to:
        size = [max(1, round(n * (to["shorter_side"] / min(sides[1:])))) for n in sides[1:]]
    size = [*sides[: 3 - len(size)], *size]
    return _resized(data, size, to, (old, new)), (shape, box[1:], (new, old))


def _number(what: Any, values: np.ndarray) -> Any:
    return getattr(values, what)() if isinstance(what, str) else what


def _without_holes(mask: np.ndarray) -> np.ndarray:
    outside, free, before = ~np.pad(np.ones_like(mask), 1), ~np.pad(mask, 1), -1
    while before < (before := outside.sum()):
        for axis, way in itertools.product(range(3), (1, -1)):
            outside |= np.roll(outside, way, axis) & free
    return ~outside[1:-1, 1:-1, 1:-1]


def _resized(data: np.ndarray, size: Any, rule: Rules, spacings: Any) -> np.ndarray:
    far = [each for each in spacings if max(each) > (rule["apart_beyond"] or np.inf) * min(each)]
    apart = [axis + 1 for axis in range(3) if far and far[0][axis] == max(far[0])]
    apart = apart if len(apart) == 1 else []  # where slices are too far apart to interpolate
    near = [axis for axis in (1, 2, 3) if axis not in apart]
    bounds = data.min(tuple(near), keepdims=True), data.max(tuple(near), keepdims=True)
    for axis, (old, new) in ((n, (data.shape[n], size[n - 1])) for n in near + apart):
        if old != new:
            matrix = _shares(old, new, "nearest" if axis in apart else rule["method"])
            data = np.moveaxis(np.tensordot(matrix, data, (1, axis)), 0, axis)
        data = data.clip(*bounds) if axis == near[-1] else data
    return np.ascontiguousarray(data, np.float32)


def _shares(old: int, new: int, method: str) -> np.ndarray:  # of old pixels in new ones
    edges, pixels = np.arange(new + 1)[:, None] * old, np.arange(old)
    if method == "area":
        weights = (pixels >= edges[:-1] // new) & (pixels < -(-edges[1:] // new))
        return np.float32(weights / weights.sum(1, keepdims=True))
    middles = (edges[:-1] + edges[1:]) / (2 * new) - 0.5
    if method == "cubic":  # a spline through all pixels, the outer ones repeated
        wide = np.arange(-12, old + 12)
        through = _b_spline(wide[:, None] - wide)
        through[0, 1] = through[-1, -2] = 1 / 3
        repeated = wide.clip(0, old - 1)[:, None] == pixels
        return _b_spline(middles - wide) @ np.linalg.solve(through, repeated)
    reach = max(old / new, 1) if method == "antialiased" else 1
    middles = middles if method == "antialiased" else middles.clip(0, old - 1)
    middles = np.floor(middles + 0.5) if method == "nearest" else middles
    weights = (1 - abs(pixels - middles) / reach).clip(0)
    return np.float32(weights / weights.sum(1, keepdims=True))


def _b_spline(x: np.ndarray) -> np.ndarray:
    return np.where(abs(x) < 1, 2 / 3 - x**2 + abs(x) ** 3 / 2, (2 - abs(x)).clip(0) ** 3 / 6)


def _tiled_logits(rules: Rules, data: np.ndarray, session: Any) -> np.ndarray:
    tile, most = rules["patch_size"], rules["most_pixels_at_once"]
    sides = zip(data.shape[2:], tile, rules["divisors"], strict=False)
    whole = [side if n <= side else -(-n // by) * by for n, side, by in sides]
    tile = whole if np.prod(whole) <= most else tile
    missing = [max(side - n, 0) for side, n in zip(tile, data.shape[-len(tile) :], strict=True)]
    pads = [(0, 0)] * (4 - len(tile)) + [(n // 2, n - n // 2) for n in missing]
    padded, gauss = np.pad(data, pads), np.float64(10)
    starts = [[slice(z, z + 1) for z in range(data.shape[1])]] * (3 - len(tile))
    for side, n in zip(tile, padded.shape[-len(tile) :], strict=True):
        count = int(np.ceil((n - side) / (side * rules["tile_step"]))) + 1
        step = (n - side) / max(count - 1, 1)
        starts.append([slice(k, k + side) for k in (round(step * i) for i in range(count))])
        away = abs(np.arange(side) - side // 2)
        profile = np.exp(-32 * (away / side) ** 2) * (away <= int(side / 2 + 0.5))
        gauss = np.multiply.outer(gauss, profile)
    gauss = np.float16(gauss).reshape([1] * (3 - len(tile)) + tile)
    gauss[gauss == 0] = gauss[gauss > 0].min()
    axes = [axis + 2 for axis in rules["mirror_axes"]]
    flips = [way for n in range(len(axes) + 1) for way in itertools.combinations(axes, n)]
    weights = np.zeros(padded.shape[1:], np.float16)
    logits = np.zeros((rules["heads"], *weights.shape), np.float16)  # as nnU-Net has it
    for place in itertools.product(*starts):
        here = (slice(None), *place)
        image, said = padded[here].reshape(1, -1, *tile), np.zeros(1, np.float32)
        for way in flips:
            given = np.ascontiguousarray(np.flip(image, way))
            said = said + np.flip(session.run(None, {"image": given})[0], way)
        logits[here] += (said / np.float32(len(flips))).reshape(-1, *gauss.shape) * gauss
        weights[place] += gauss
    kept = zip(pads[1:], data.shape[1:], strict=True)
    inside = (slice(None), *(slice(before, before + n) for (before, _), n in kept))
    return np.asarray((logits / weights)[inside])


def _to_labels(rules: Rules, logits: np.ndarray, back: Any) -> np.ndarray:
    shape, box, spacings = back
    size = [part.stop - part.start for part in box]
    logits = _resized(np.float32(logits), size, rules["resize_logits"], spacings)
    labels = np.zeros(shape, rules["label_type"])
    if rules["regions"] is None:
        labels[box] = logits.argmax(0)
    for region, said in zip(rules["regions"] or [], logits, strict=False):
        labels[box][1 / (1 + np.exp(-said)) > 0.5] = region
    return labels.transpose(rules["transpose_backward"])


if __name__ == "__main__":
    given_spacing = [float(side) for side in sys.argv[4:]] or None
    np.save(sys.argv[3], segment(sys.argv[1], np.load(sys.argv[2]), given_spacing))
