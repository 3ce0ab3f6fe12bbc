"""The selective scan against its definition, token by token."""
# ruff: noqa: N803 - A, B and C are what the field calls these matrices

from __future__ import annotations

import importlib
import logging

import pytest
import torch
from torch.nn import functional

from nnmedseg.errors import UserError
from nnmedseg.ops import _scan_chunked, selective_scan
from nnmedseg.ops._scan_chunked import steps_per_chunk

scan_module = importlib.import_module("nnmedseg.ops.selective_scan")  # the function hides it


def sequential_scan(u, dt, A, B, C, *, D, z, dt_bias):
    """The definition: one token after another, all in the type of the inputs."""
    delta = functional.softplus(dt + dt_bias)
    state = u.new_zeros(u.shape[0], *A.shape)
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * A)
        state = decay * state + (delta[:, t] * u[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1))
    y = torch.stack(outputs, dim=1) + D * u
    return y * functional.silu(z), state


def random_inputs(length, channels, *, batch=2, states=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "u": normal(batch, length, channels),
        "dt": normal(batch, length, channels),
        "A": -normal(channels, states).abs() - 0.1,
        "B": normal(batch, length, states),
        "C": normal(batch, length, states),
        "D": normal(channels),
        "z": normal(batch, length, channels),
        "dt_bias": normal(channels),
    }


def with_gradients(scan, inputs, **options):
    """Output, last state and the gradients of every input, for fixed incoming gradients."""
    inputs = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    out, last_state = scan(**inputs, **options)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
    loss = (out * weights).sum() + last_state.sum()
    gradients = torch.autograd.grad(loss, list(inputs.values()))
    return {"out": out, "last": last_state, **dict(zip(inputs, gradients, strict=True))}


def assert_near(actual, expected, tolerance):
    """Every tensor within ``tolerance`` of the largest entry of what is expected."""
    for name, value in expected.items():
        error = (actual[name] - value).abs().max()
        assert error <= tolerance * value.abs().max(), (name, float(error))


OURS = {"dt_softplus": True, "return_last_state": True}


@pytest.fixture
def small_steps(monkeypatch):
    """Many chunks and kept states even for short sequences."""
    monkeypatch.setitem(_scan_chunked.STEP_VALUES, "cpu", 32)
    monkeypatch.setattr(_scan_chunked, "CHECKPOINT_STEPS", 4)


@pytest.mark.parametrize("channels", [4, 8, 12, 24, 32])
@pytest.mark.parametrize("length", [1, 77, 257, 300])
@pytest.mark.usefixtures("small_steps")
def test_float64_agrees_with_the_definition(length, channels):
    inputs = random_inputs(length, channels)
    expected = with_gradients(sequential_scan, inputs)
    assert_near(with_gradients(selective_scan, inputs, **OURS), expected, 1e-13)


def test_float32_agrees_with_float64():
    inputs = random_inputs(4096, 8, batch=1, states=16)
    expected = with_gradients(selective_scan, inputs, **OURS)
    single = {name: value.float() for name, value in inputs.items()}
    assert_near(with_gradients(selective_scan, single, **OURS), expected, 2e-6)


@pytest.mark.parametrize(("length", "steps"), [(1, 1), (5, 1), (13, 4), (23, 8)])
def test_gradcheck(monkeypatch, length, steps):
    monkeypatch.setattr(_scan_chunked, "steps_per_chunk", lambda *_: steps)
    monkeypatch.setattr(_scan_chunked, "CHECKPOINT_STEPS", 2)
    inputs = {k: v.requires_grad_() for k, v in random_inputs(length, 4).items()}

    def run(*values):
        return selective_scan(**dict(zip(inputs, values, strict=True)), **OURS)

    assert torch.autograd.gradcheck(run, tuple(inputs.values()))


@pytest.mark.usefixtures("small_steps")
def test_keeping_one_state_a_token_changes_nothing(monkeypatch):
    inputs = random_inputs(77, 8)
    expected = with_gradients(selective_scan, inputs, **OURS)
    monkeypatch.setattr(_scan_chunked, "CHECKPOINT_STEPS", 1)
    assert_near(with_gradients(selective_scan, inputs, **OURS), expected, 1e-15)


@pytest.mark.parametrize("shift", [-40.0, 60.0])
def test_extreme_steps_agree_with_the_definition(shift):
    inputs = random_inputs(300, 4)
    inputs["dt"] = inputs["dt"] + shift
    expected = with_gradients(sequential_scan, inputs)
    actual = with_gradients(selective_scan, inputs, **OURS)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("length", [1, 2, 77, 9216, 65536])
@pytest.mark.parametrize("values", [1, 10**6, 10**9])
def test_steps_of_a_chunk_are_a_power_of_two_within_the_sequence(length, values):
    steps = steps_per_chunk(length, values, 2**16)
    assert steps & (steps - 1) == 0
    assert 1 <= steps <= max(4 * length**0.5, 1)


def test_the_skip_the_gate_and_the_bias_may_be_left_out():
    inputs = random_inputs(20, 4)
    plain = {name: inputs[name] for name in ("u", "dt", "A", "B", "C")}
    plain["dt"] = plain["dt"].abs()
    everything = {
        **plain,
        "D": torch.zeros(4, dtype=torch.float64),
        "z": torch.full_like(plain["u"], 50.0),  # silu(50) is 50
        "dt_bias": torch.zeros(4, dtype=torch.float64),
    }
    torch.testing.assert_close(selective_scan(**plain), selective_scan(**everything) / 50)


def test_half_precision_input_is_scanned_in_float32():
    inputs = random_inputs(300, 4, dtype=torch.float32)
    rounded = {name: value.bfloat16() for name, value in inputs.items()}
    out, last_state = selective_scan(**rounded, **OURS)
    expected, _ = selective_scan(**{k: v.float() for k, v in rounded.items()}, **OURS)
    assert out.dtype == torch.bfloat16
    assert last_state.dtype == torch.float32
    torch.testing.assert_close(out, expected.bfloat16())


def test_autocast_does_not_touch_the_scan():
    inputs = random_inputs(300, 4, dtype=torch.float32)
    expected = selective_scan(**inputs, dt_softplus=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(selective_scan(**inputs, dt_softplus=True), expected)


def saved_bytes(inputs):
    total = 0

    def pack(tensor):
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(**{k: v.requires_grad_() for k, v in inputs.items()}, dt_softplus=True)
    return total


def test_meta_saves_the_bytes_that_a_real_run_saves():
    inputs = random_inputs(1000, 8, states=16, dtype=torch.float32)
    on_meta = {name: value.to("meta") for name, value in inputs.items()}
    assert saved_bytes(on_meta) == saved_bytes(inputs)


def test_meta_backward_has_the_inputs_shapes():
    inputs = {k: v.to("meta") for k, v in random_inputs(50, 4).items()}
    result = with_gradients(lambda **kw: selective_scan(**kw, **OURS), inputs)
    assert {k: result[k].shape for k in inputs} == {k: v.shape for k, v in inputs.items()}


def test_an_unknown_form_names_the_known_ones(monkeypatch):
    monkeypatch.setenv("NNMEDSEG_SCAN", "quick")
    with pytest.raises(UserError, match="chunked, mamba_ssm"):
        selective_scan(**random_inputs(5, 4))


def test_a_form_that_fails_falls_back_with_one_warning(monkeypatch, caplog):
    def broken(_):
        raise OSError("undefined symbol")

    monkeypatch.setattr(scan_module, "_given_up", set())
    monkeypatch.setitem(scan_module._FORMS, "mamba_ssm", broken)
    inputs = random_inputs(5, 4)
    expected = selective_scan(**inputs)
    monkeypatch.setenv("NNMEDSEG_SCAN", "mamba_ssm")
    with caplog.at_level(logging.WARNING):
        results = [selective_scan(**inputs) for _ in range(2)]
    assert all(torch.equal(result, expected) for result in results)
    assert len(caplog.records) == 1
