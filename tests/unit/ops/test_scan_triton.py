"""The scan's Triton kernels: what they compute, in Triton's interpreter, and that they compile."""
# ruff: noqa: N803, N806 - A, B, C and D are what the field calls these matrices

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional

triton = pytest.importorskip("triton", reason="Triton comes with CUDA builds of PyTorch")

from nnmedseg.ops import _scan_triton  # noqa: E402 - needs Triton
from nnmedseg.ops import _scan_triton_kernels as kernels  # noqa: E402

NAMES = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias")

# Triton decides at its import whether it interprets.
INTERPRETED = """
import sys, torch
from nnmedseg.ops import _scan_triton

results = {}
for name, (grad_out, grad_last, inputs, softplus) in torch.load(sys.argv[1]).items():
    out, last, kept = _scan_triton.forward(*inputs, softplus)
    gradients = _scan_triton.backward(grad_out, grad_last, kept, *inputs, softplus)
    results[name] = (out, last, kept, gradients)
torch.save(results, sys.argv[2])
"""


@dataclass(frozen=True)
class Case:
    """One scan, named by what is special about it."""

    length: int
    channels: int
    states: int = 3
    batch: int = 1
    shift: float = 0.0
    softplus: bool = True
    without: tuple[str, ...] = ()
    sliced: bool = False

    def inputs(self) -> list[torch.Tensor | None]:
        """``u`` to ``dt_bias`` in float32, all or in part slices of one wide projection."""
        generator = torch.Generator().manual_seed(self.length * self.channels)
        D, N = self.channels, self.states
        sizes = {"u": D, "dt": D, "B": N, "C": N, "z": D}
        rows = torch.randn(self.batch, self.length, sum(sizes.values()), generator=generator)
        tokens = dict(zip(sizes, rows.split(list(sizes.values()), -1), strict=True))
        tokens["dt"] += self.shift
        if not self.softplus:
            tokens["dt"].abs_()
        if not self.sliced:
            tokens = {name: value.contiguous() for name, value in tokens.items()}
        shared = {
            "A": -torch.rand(D, N, generator=generator) - 0.1,
            "D": torch.randn(D, generator=generator),
            "dt_bias": torch.randn(D, generator=generator),
        }
        given = {**tokens, **shared}
        return [None if name in self.without else given[name] for name in NAMES]

    def incoming(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of the output and of the last state."""
        generator = torch.Generator().manual_seed(1)
        last = torch.randn(self.batch, self.channels, self.states, generator=generator)
        if self.sliced:  # what the gradient of a sum over channels looks like
            rows = torch.randn(self.batch, self.length, 1, generator=generator)
            return rows.expand(-1, -1, self.channels), last
        return torch.randn(self.batch, self.length, self.channels, generator=generator), last


PLAIN = ("D", "z", "dt_bias")
QUICK = {
    "one token": Case(1, 4),
    "part of a tile and part of a block of channels": Case(11, 12),
}
SLOW = {
    "tiles, chunks and the tiles of the carry": Case(257, 8),
    "fewer channels than a block": Case(300, 4, states=16),
    "two sequences": Case(77, 8, states=16, batch=2),
    "three blocks of channels": Case(20, 24, states=16),
    "five blocks of channels": Case(20, 40),
    "two warps": Case(20, 8, states=20),
    "no skip, gate or bias": Case(20, 8, without=PLAIN),
    "no gate": Case(20, 4, without=("z",)),
    "no softplus": Case(20, 4, softplus=False),
    "slices": Case(20, 12, batch=2, sliced=True),
    "very large steps": Case(40, 4, shift=60.0),
    # Without a bias, whose sum with such a step has few digits in any form.
    "very small steps": Case(40, 4, states=16, shift=-40.0, without=PLAIN),
}


def run_interpreted(cases, folder):
    """What ``forward`` and ``backward`` return in Triton's interpreter, by case."""
    asked = {name: (*case.incoming(), case.inputs(), case.softplus) for name, case in cases.items()}
    torch.save(asked, folder / "cases.pt")
    command = [sys.executable, "-c", INTERPRETED, folder / "cases.pt", folder / "results.pt"]
    subprocess.run(command, check=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    return torch.load(folder / "results.pt")


@pytest.fixture(scope="module")
def quick_results(tmp_path_factory):
    return run_interpreted(QUICK, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def slow_results(tmp_path_factory):
    return run_interpreted(SLOW, tmp_path_factory.mktemp("slow"))


def sequential_scan(u, dt, A, B, C, *, D, z, dt_bias, softplus):
    """The definition: one token after another."""
    delta = dt if dt_bias is None else dt + dt_bias
    if softplus:
        delta = functional.softplus(delta)
    state = u.new_zeros(u.shape[0], *A.shape)
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * A)
        state = decay * state + (delta[:, t] * u[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1))
    y = torch.stack(outputs, dim=1)
    y = y if D is None else y + D * u
    return (y if z is None else y * functional.silu(z)), state


def expected_results(case):
    """Output, last state and gradients by the definition in float64."""
    inputs = [None if x is None else x.double().requires_grad_() for x in case.inputs()]
    given = {name: x for name, x in zip(NAMES, inputs, strict=True) if x is not None}
    options = {name: given.get(name) for name in PLAIN}
    out, last = sequential_scan(*inputs[:5], **options, softplus=case.softplus)
    grad_out, grad_last = case.incoming()
    loss = (out * grad_out).sum() + (last * grad_last).sum()
    gradients = torch.autograd.grad(loss, list(given.values()))
    return {"out": out, "last": last, **dict(zip(given, gradients, strict=True))}


def assert_agrees(case, result):
    out, last, kept, gradients = result
    actual = {"out": out, "last": last, **dict(zip(NAMES, gradients, strict=True))}
    expected = expected_results(case)
    assert kept.shape == _scan_triton.kept_shape(
        (case.batch, case.length, case.channels), case.states
    )
    assert {name for name, value in actual.items() if value is not None} == set(expected)
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        error = (actual[name] - value).abs().max()
        assert error <= 2e-6 * value.abs().max(), (name, float(error))


@pytest.mark.parametrize("name", QUICK)
def test_a_short_scan_agrees_with_the_definition(name, quick_results):
    assert_agrees(QUICK[name], quick_results[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_scan_agrees_with_the_definition(name, slow_results):
    assert_agrees(SLOW[name], slow_results[name])


def test_outputs_are_contiguous(quick_results):
    out, last, kept, gradients = quick_results["part of a tile and part of a block of channels"]
    assert all(tensor.is_contiguous() for tensor in (out, last, kept, *gradients))


def test_one_state_is_kept_for_every_eight_tokens():
    assert _scan_triton.kept_shape((2, 300, 6), 16) == (2, 38, 16, 6)


@pytest.mark.parametrize("length", [1, 8, 9, 300, 4096, 65536, 10**6])
def test_a_chunk_is_a_whole_number_of_tiles(length):
    assert _scan_triton.chunk_tokens(length) % _scan_triton.TILE_TOKENS == 0


def test_tiles_and_chunks_in_turn_are_few():
    chunk = _scan_triton.chunk_tokens(65536)
    assert chunk // _scan_triton.TILE_TOKENS + 65536 // chunk <= 512


NUMBERS = ("length", "chunk", "chunks", "batches")


def compiled(kernel, capability, **constants):
    """The kernel's compilation for a GPU that need not be there."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {}
    for parameter in kernel.params:
        if parameter.is_constexpr:
            signature[parameter.name] = "constexpr"
        elif parameter.name in NUMBERS or parameter.name.endswith(("_batch", "_token")):
            signature[parameter.name] = "i32"
        else:
            signature[parameter.name] = "*fp32"
    known = {name: value for name, value in constants.items() if name in signature}
    return triton.compile(
        ASTSource(kernel, signature, known),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": 1, "enable_fp_fusion": True},
    )


@pytest.mark.slow
@pytest.mark.skipif(
    tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 3)
    or bool(os.environ.get("TRITON_INTERPRET")),
    reason="describes kernels as Triton 3.3 does",
)
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("width", [8, 64])
def test_the_kernels_compile_for_a_gpu(width, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    sizes = {"WIDTH": width, "STATES": 16, "BLOCK_D": 8, "BLOCK_N": 16}
    for name in ("chunk_ends", "carry", "outputs", "chunk_adjoints", "gradients"):
        kernel = getattr(kernels, name)
        binary = compiled(kernel, capability, **sizes, SOFTPLUS=True, BACKWARDS=True)
        assert f".entry {name}" in binary.asm["ptx"]
        assert binary.asm["cubin"]
