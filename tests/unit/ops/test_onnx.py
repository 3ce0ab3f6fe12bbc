"""Our operators in exports to ONNX, where they are made of PyTorch's own; by ONNX Runtime."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import nn

from nnmedseg.networks.layers.depthwise import DepthwiseConv2d
from nnmedseg.networks.layers.mamba import MambaBlock
from nnmedseg.ops.window_mix import mix_windows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


class WindowMix(nn.Module):
    def forward(self, attention, values):
        return mix_windows(attention, values)


MODULES = {
    "scan": (lambda: MambaBlock(8), [(2, 150, 8)]),
    "one token": (lambda: MambaBlock(8), [(1, 1, 8)]),
    "depthwise": (lambda: DepthwiseConv2d(4, 7), [(1, 4, 12, 15)]),
    "windows": (WindowMix, [(1, 2, 9, 9, 4, 5), (1, 6, 4, 5)]),
}


@pytest.mark.parametrize("name", MODULES)
def test_an_exported_operator_computes_the_same(name, tmp_path):
    torch.manual_seed(0)
    build, shapes = MODULES[name]
    module, inputs = build().eval(), tuple(torch.randn(shape) for shape in shapes)
    path = tmp_path / "module.onnx"
    torch.onnx.export(module, inputs, dynamo=True).save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    arrays = dict(zip(names, (x.numpy() for x in inputs), strict=True))
    (found,) = session.run(None, arrays)
    torch.testing.assert_close(torch.from_numpy(found), module(*inputs).detach())
