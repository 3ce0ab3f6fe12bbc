"""Deformable 3x3 depthwise convolution (Dai et al., 2017) whose channels share the offsets.

The environment variable ``NNMEDSEG_DEFORMABLE`` forces a form; it is read at each call:

- ``numba``: compiled for the processor, what CPUs use;
- ``torchvision``: torchvision's operator, what CUDA devices use;
- ``sampling``: plain PyTorch, what is used everywhere else and where another form fails.

A form that fails is given up with one warning, and the samplings take over; float64 on a CPU is
always sampled. Programs of ``torch.compile`` hold the form that was chosen when they were traced,
exported ones the samplings.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nnmedseg.ops._deformable_sampling import check_shapes, nine_samplings, without_infinities
from nnmedseg.ops._forms import Forms
from nnmedseg.ops._precision import at_least_float32, without_autocast

Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def _numba() -> Form:
    from nnmedseg.ops._deformable_numba import convolve  # noqa: PLC0415 - numba is slow to import

    return convolve


def _torchvision() -> Form:
    from torchvision.ops import deform_conv2d  # noqa: PLC0415 - slow to import, and optional

    def convolve(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        return deform_conv2d(x, without_infinities(offset), weight, padding=1)

    return convolve


def _attempt(form: Form, device_type: str) -> None:
    """Compare a form with the samplings, gradients included; raises where they differ."""
    results = []
    with torch.inference_mode(False), torch.enable_grad():
        for convolve in (form, nine_samplings):
            inputs = [tensor.to(device_type).requires_grad_() for tensor in _example()]
            out = convolve(*inputs)
            results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def _example() -> tuple[Tensor, Tensor, Tensor]:
    """Maps of 17 channels, 3 by 7 pixels, and no offset near a whole number of pixels."""
    x = torch.arange(17 * 3 * 7, dtype=torch.float32, device="cpu").sin().view(1, 17, 3, 7)
    offset = torch.arange(18 * 3 * 7, dtype=torch.float32, device="cpu").view(1, 18, 3, 7)
    weight = torch.arange(17 * 9, dtype=torch.float32, device="cpu").cos().view(17, 1, 3, 3)
    return x, offset % 5 - 2.3 + 0.4 * offset.sin(), weight


_forms = Forms(
    "deformable convolution",
    variable="NNMEDSEG_DEFORMABLE",
    loaders={"sampling": lambda: nine_samplings, "numba": _numba, "torchvision": _torchvision},
    preferred={"cpu": "numba", "meta": "numba", "cuda": "torchvision"},
    fallback="sampling",
    float32_only=("numba",),
    attempt=_attempt,
)


def deformable_depthwise_conv(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Convolve ``x`` with 3x3 filters, one a channel, whose taps are moved pixel by pixel.

    Output pixel (i, j), tap (r, c) of k = 3 r + c reads the input at row ``i - 1 + r + dy`` and
    column ``j - 1 + c + dx``, bilinearly, with zeros outside the map. An offset that is not a
    number reads zero. Computed in float32 (float64 for float64 input), also under autocast.

    Args:
        x: Maps ``(B, C, H, W)``; in channels_last on a CPU if possible.
        offset: Offsets in pixels ``(B, 18, H, W)``: channel 2 k is dy of tap k, 2 k + 1 its dx.
        weight: Filters ``(C, 1, 3, 3)``.

    Returns:
        Maps ``(B, C, H, W)``, in the type of ``x``, and in channels_last if ``x`` is.

    Raises:
        UserError: ``NNMEDSEG_DEFORMABLE`` names an unknown form.
        ValueError: Shapes do not belong together.
    """
    check_shapes(x, offset, weight)
    wide = at_least_float32(x.dtype)
    with without_autocast(x.device.type):
        inputs = (x.to(wide), offset.to(wide), weight.to(wide))
        # ONNX knows grid_sample, but no operator of ours.
        traced = torch.onnx.is_in_onnx_export()
        out: Tensor = nine_samplings(*inputs) if traced else _forms.run(inputs[0], *inputs)
    return out.to(x.dtype)
