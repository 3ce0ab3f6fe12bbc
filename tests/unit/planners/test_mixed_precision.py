"""The simulated casts are those of CUDA's autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from nnmedseg.ops._precision import autocast_switched, without_autocast
from nnmedseg.ops._simulated_device import simulated_device
from nnmedseg.planners._simulated_functions import SimulatedFunctions, _attention_on_cuda
from nnmedseg.planners._simulated_layout import SimulatedLayout

from .measured_networks import NETWORKS

# A build without CUDA aborts on fake CUDA tensors.
NEEDS_CUDAS_AUTOCAST = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason="this PyTorch has no autocast for CUDA"
)
PATCH = (64, 96)


def attention_as_on_a_gpu(*args, **kwargs):
    """Take the kernel that a GPU would; without one, PyTorch keeps the matrix of all pairs."""
    given = [x.half() if isinstance(x, torch.Tensor) else x for x in args]
    return _attention_on_cuda(*given, **kwargs)


@contextmanager
def cudas_autocast() -> Iterator[None]:
    """``torch.autocast`` refuses to be on where there is no GPU."""
    torch.autocast_increment_nesting()
    try:
        with autocast_switched(enabled=True):
            yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()


@contextmanager
def simulated_autocast() -> Iterator[None]:
    with (
        simulated_device("cuda"),
        SimulatedFunctions("cuda"),
        SimulatedLayout(),
        autocast_switched(enabled=True),
    ):
        yield


def saved_bytes(network, image):
    """Bytes that autograd keeps of a forward pass, each storage once and no parameter."""
    own = {x.untyped_storage()._cdata for x in (*network.parameters(), *network.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own and storage.nbytes() > 16:  # attention's seeds
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    assert outputs is not None
    return sum(storage.nbytes() for storage in kept.values())


def without_values(build):
    with torch.device("meta"):
        return build().train()


def on_fake_cuda(network):
    """Exchange parameters and buffers, some of which belong to several modules."""
    exchanged = {}
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, old in tensors.items():
                if old is not None and id(old) not in exchanged:
                    new = torch.empty(old.shape, dtype=old.dtype, device="cuda")
                    is_parameter = isinstance(old, nn.Parameter)
                    exchanged[id(old)] = (
                        nn.Parameter(new, requires_grad=old.requires_grad) if is_parameter else new
                    )
                tensors[name] = None if old is None else exchanged[id(old)]


@NEEDS_CUDAS_AUTOCAST
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_a_forward_pass_keeps_what_it_keeps_under_cudas_autocast(build, monkeypatch):
    network, real_network = without_values(build), without_values(build)
    with FakeTensorMode():
        on_fake_cuda(real_network)
        image = torch.empty(2, 3, *PATCH, device="cuda")
        with monkeypatch.context() as patch, cudas_autocast():
            patch.setattr(functional, "scaled_dot_product_attention", attention_as_on_a_gpu)
            real = saved_bytes(real_network, image)
    with simulated_autocast():
        simulated = saved_bytes(network, torch.empty(2, 3, *PATCH, device="meta"))
    assert simulated == real


OPERATIONS = {
    "matmul": lambda x: x @ x,
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "linear": lambda x: functional.linear(x, x[0, 0]),
    "conv": lambda x: functional.conv2d(x, x[:, :, :3, :3]),
    "softmax": lambda x: functional.softmax(x, 1),
    "softmax method": lambda x: x.softmax(dim=1),
    "log_softmax": lambda x: functional.log_softmax(x, 1),
    "power": lambda x: x**2,
    "base of a power": lambda x: 2**x,
    "quotient": lambda x: 1 / x,
    "exp": lambda x: x.exp(),
    "exp in place": lambda x: x.exp_(),
    "sum": lambda x: x.sum(1),
    "mean": lambda x: x.mean(),
    "norm": lambda x: x.norm(),
    "normalize": functional.normalize,
    "layer norm": lambda x: functional.layer_norm(x, (6,)),
    "group norm": lambda x: functional.group_norm(x, 2),
    "batch norm": lambda x: functional.batch_norm(x, None, None, training=True),
    "enlarged": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "nearest": lambda x: functional.interpolate(x, scale_factor=2),
    "shrunk": lambda x: functional.interpolate(x, scale_factor=0.5, mode="area"),
    "joined": lambda x: torch.cat([x, x.float()]),
    "stacked": lambda x: torch.stack([x, x.float()]),
    "mixed sum": lambda x: x + x.float(),
    "addcmul": lambda x: torch.addcmul(x.float(), x, x),
    "grid": lambda x: functional.grid_sample(x, x[..., :2].float(), align_corners=False),
    "gelu": functional.gelu,
    "softplus": functional.softplus,
    "pooled": lambda x: functional.max_pool2d(x, 2),
    "cross entropy": lambda x: functional.cross_entropy(x, x[:, 0].long() * 0),
    "mse": lambda x: functional.mse_loss(x, x.float()),
    "binary": lambda x: functional.binary_cross_entropy_with_logits(x, x),
    "cumsum": lambda x: x.cumsum(1),
    "cdist": lambda x: torch.cdist(x, x),
}


@NEEDS_CUDAS_AUTOCAST
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_result_has_the_type_that_it_has_under_cudas_autocast(operation, dtype):
    with simulated_autocast():
        simulated = operation(torch.zeros(2, 4, 6, 6, dtype=dtype, device="meta"))
    with FakeTensorMode(), cudas_autocast():
        real = operation(torch.zeros(2, 4, 6, 6, dtype=dtype, device="cuda"))
    assert (simulated.dtype, simulated.shape) == (real.dtype, real.shape)


def test_a_weight_is_cast_once():
    layer = nn.Conv2d(3, 3, 1, device="meta")
    image = torch.zeros(1, 3, 8, 8, device="meta")
    with simulated_autocast():
        twice = layer(layer(image))
    first, second = twice.grad_fn, twice.grad_fn.next_functions[0][0]
    assert first._saved_weight is not None
    assert first._saved_weight.untyped_storage()._cdata == (
        second._saved_weight.untyped_storage()._cdata
    )


def test_nothing_is_cast_where_a_network_leaves_autocast():
    x = torch.zeros(4, 4, device="meta")
    with simulated_autocast():
        with without_autocast("meta"):
            inside = x @ x
        assert (inside.dtype, (x @ x).dtype) == (torch.float32, torch.float16)


def test_attention_keeps_no_matrix_of_all_pairs():
    tokens = torch.zeros(1, 2, 4096, 32, device="meta", requires_grad=True)
    saved = []
    with (
        simulated_autocast(),
        torch.autograd.graph.saved_tensors_hooks(
            lambda x: saved.append(x.numel()) or x, lambda x: x
        ),
    ):
        functional.scaled_dot_product_attention(tokens, tokens, tokens)
    assert max(saved) == tokens.numel()
