"""The selective scan against its definition, token by token."""
# ruff: noqa: N803 - A, B and C are what the field calls these matrices

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from nnmedseg.ops import _scan_chunked, selective_scan
from nnmedseg.ops._forms import _all_forms
from nnmedseg.ops._scan_chunked import steps_per_chunk


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


def in_float64(inputs):
    """The same numbers in float64."""
    return {name: value.double() for name, value in inputs.items()}


def assert_near(actual, expected, tolerance):
    """Every tensor within ``tolerance`` of the largest entry of what is expected."""
    for name, value in expected.items():
        error = (actual[name] - value).abs().max()
        assert error <= tolerance * value.abs().max(), (name, float(error))


chooser = _all_forms["selective scan"]
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


@pytest.fixture(params=["chunked", "numba"])
def form(request, monkeypatch):
    """Forces each form that a CPU has; fails if it was given up.

    Triton's needs a GPU or its interpreter: see test_scan_triton.
    """
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setenv("NNMEDSEG_SCAN", request.param)
    yield request.param
    assert chooser.choose("cpu") == request.param


@pytest.mark.parametrize("channels", [4, 8, 12, 24, 32])
@pytest.mark.parametrize("length", [1, 77, 257, 300])
@pytest.mark.usefixtures("form")
def test_float32_agrees_with_the_definition_in_float64(length, channels):
    inputs = random_inputs(length, channels, dtype=torch.float32)
    expected = with_gradients(sequential_scan, in_float64(inputs))
    assert_near(with_gradients(selective_scan, inputs, **OURS), expected, 2e-6)


@pytest.mark.parametrize("states", [1, 8, 16, 17, 40])
@pytest.mark.usefixtures("form")
def test_any_number_of_states(states):
    inputs = random_inputs(77, 8, states=states, dtype=torch.float32)
    expected = with_gradients(sequential_scan, in_float64(inputs))
    assert_near(with_gradients(selective_scan, inputs, **OURS), expected, 2e-6)


@pytest.mark.parametrize(("length", "tolerance"), [(4096, 2e-6), (65536, 1e-5)])
@pytest.mark.usefixtures("form")
def test_long_sequences_in_float32_agree_with_float64(length, tolerance):
    inputs = random_inputs(length, 4, batch=1, states=16, dtype=torch.float32)
    expected = with_gradients(selective_scan, in_float64(inputs), **OURS)
    assert_near(with_gradients(selective_scan, inputs, **OURS), expected, tolerance)


@pytest.mark.usefixtures("form")
def test_large_steps_in_float32_agree_with_the_definition():
    inputs = random_inputs(300, 8, dtype=torch.float32)
    inputs["dt"] = inputs["dt"] + 60
    expected = with_gradients(sequential_scan, in_float64(inputs))
    assert_near(with_gradients(selective_scan, inputs, **OURS), expected, 5e-6)


@pytest.mark.usefixtures("form")
def test_tiny_steps_in_float32_agree_with_the_definition():
    inputs = random_inputs(300, 8, dtype=torch.float32)
    inputs["dt"] = inputs["dt"] - 40
    inputs["dt_bias"] = torch.zeros(8)  # added to -40 it would be rounded, and so would the steps
    expected = with_gradients(sequential_scan, in_float64(inputs))
    assert_near(with_gradients(selective_scan, inputs, **OURS), expected, 5e-6)


@pytest.mark.usefixtures("form")
def test_rows_that_lie_apart_are_scanned_like_dense_ones():
    inputs = random_inputs(77, 8, dtype=torch.float32)
    apart = dict(inputs)
    for name in ("u", "dt", "z", "B", "C"):
        width = inputs[name].shape[-1]
        wider = torch.full((2, 80, width + 5), torch.nan)
        wider[:, 2:79, 3 : width + 3] = inputs[name]
        apart[name] = wider[:, 2:79, 3 : width + 3]
    apart["u"] = inputs["u"].transpose(1, 2).contiguous().transpose(1, 2)
    expected = selective_scan(**inputs, dt_softplus=True)
    torch.testing.assert_close(selective_scan(**apart, dt_softplus=True), expected)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_threads_change_nothing(monkeypatch, batch):
    pytest.importorskip("numba")
    monkeypatch.setenv("NNMEDSEG_SCAN", "numba")
    inputs = random_inputs(1024, 24, batch=batch, states=16, dtype=torch.float32)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            results.append(with_gradients(selective_scan, inputs, **OURS))
    finally:
        torch.set_num_threads(before)
    assert_near(*results, 1e-6)


@pytest.mark.usefixtures("form")
def test_a_step_that_is_not_a_number_is_not_hidden():
    inputs = random_inputs(77, 8, dtype=torch.float32)
    inputs["dt"][0, 40, 3] = torch.nan
    out = selective_scan(**inputs, dt_softplus=True)
    assert out[0, 40:, 3].isnan().all()
    assert not out[:, :40].isnan().any()


@pytest.mark.usefixtures("form")
def test_shapes_that_do_not_belong_together_are_refused():
    inputs = random_inputs(20, 4, dtype=torch.float32)
    with pytest.raises(ValueError, match="B has the shape"):
        selective_scan(**inputs | {"B": inputs["B"][:, :19]})


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


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_skip_the_gate_and_the_bias_may_be_left_out(dtype):
    inputs = random_inputs(20, 4, dtype=dtype)
    plain = {name: inputs[name] for name in ("u", "dt", "A", "B", "C")}
    plain["dt"] = plain["dt"].abs()
    everything = {
        **plain,
        "D": torch.zeros(4, dtype=dtype),
        "z": torch.full_like(plain["u"], 50.0),  # silu(50) is 50
        "dt_bias": torch.zeros(4, dtype=dtype),
    }
    torch.testing.assert_close(selective_scan(**plain), selective_scan(**everything) / 50)


@pytest.mark.usefixtures("form")
def test_half_precision_input_is_scanned_in_float32():
    inputs = random_inputs(300, 4, dtype=torch.float32)
    rounded = {name: value.bfloat16() for name, value in inputs.items()}
    out, last_state = selective_scan(**rounded, **OURS)
    expected, _ = selective_scan(**{k: v.float() for k, v in rounded.items()}, **OURS)
    assert out.dtype == torch.bfloat16
    assert last_state.dtype == torch.float32
    torch.testing.assert_close(out, expected.bfloat16())


@pytest.mark.usefixtures("form")
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


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("states", [3, 16])
def test_tensors_without_values_save_the_bytes_that_real_ones_save(states):
    inputs = random_inputs(1000, 8, states=states, dtype=torch.float32)
    on_meta = {name: value.to("meta") for name, value in inputs.items()}
    with FakeTensorMode() as mode:
        fake = {name: mode.from_tensor(value) for name, value in inputs.items()}
        of_fake = saved_bytes(fake)
    assert saved_bytes(on_meta) == of_fake == saved_bytes(inputs)


@pytest.mark.usefixtures("form")
def test_meta_backward_has_the_inputs_shapes():
    inputs = {k: v.to("meta") for k, v in random_inputs(50, 4, dtype=torch.float32).items()}
    result = with_gradients(lambda **kw: selective_scan(**kw, **OURS), inputs)
    assert {k: result[k].shape for k in inputs} == {k: v.shape for k, v in inputs.items()}
