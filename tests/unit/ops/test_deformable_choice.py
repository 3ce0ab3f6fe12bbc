"""Which form of the deformable convolution is used, and what happens where one does not work."""

from __future__ import annotations

import textwrap

import pytest
import torch

from nnmedseg.errors import UserError
from nnmedseg.ops import deformable_depthwise_conv

CONVOLUTION = """
    import logging
    import torch
    from nnmedseg.ops import deformable_depthwise_conv
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 6, 7, requires_grad=True), torch.randn(4, 1, 3, 3)
    offset = torch.randn(2, 18, 6, 7)
    for _ in range(2):
        out = deformable_depthwise_conv(x, offset, weight)
        out.square().sum().backward()
    print(float(out.detach().square().sum()), float(x.grad.square().sum()))
"""


@pytest.fixture
def run(run_program):
    """Runs a program; returns the numbers it prints and what it logs about the convolution."""

    def run(program, *, form="", broken=None):
        out, lines = run_program(program, broken=broken, NNMEDSEG_DEFORMABLE=form)
        messages = [line for line in lines if "deformable convolution" in line]
        return [float(number) for number in out.split()], messages

    return run


@pytest.mark.slow
def test_a_cpu_uses_numba_and_says_so_once(run):
    pytest.importorskip("numba")
    _, messages = run(CONVOLUTION)
    assert messages == ["INFO deformable convolution: numba on cpu"]


@pytest.mark.slow
def test_another_form_can_be_forced_and_gives_the_same(run):
    pytest.importorskip("numba")
    sampled, messages = run(CONVOLUTION, form="sampling")
    assert messages == ["INFO deformable convolution: sampling on cpu"]
    compiled, _ = run(CONVOLUTION)
    assert compiled == pytest.approx(sampled, rel=1e-5)
    assert compiled != sampled


@pytest.mark.slow
@pytest.mark.parametrize(("form", "broken"), [("", "numba"), ("torchvision", "torchvision")])
def test_a_form_that_cannot_be_imported_falls_back_with_one_warning(run, form, broken):
    expected, _ = run(CONVOLUTION, form="sampling")
    actual, messages = run(CONVOLUTION, form=form, broken=broken)
    assert actual == expected
    assert messages == [
        f"WARNING deformable convolution: {broken} cannot be used on cpu "
        "(ImportError: undefined symbol: _ZN3foo); using sampling instead",
        "INFO deformable convolution: sampling on cpu",
    ]


@pytest.mark.slow
def test_a_form_that_gives_wrong_numbers_is_given_up(run):
    pytest.importorskip("numba")
    wrong = """
        from nnmedseg.ops import _deformable_numba
        right = _deformable_numba.convolve
        _deformable_numba.convolve = lambda *inputs: 1.01 * right(*inputs)
    """
    expected, _ = run(CONVOLUTION, form="sampling")
    actual, messages = run(textwrap.dedent(wrong) + textwrap.dedent(CONVOLUTION))
    assert actual == expected
    assert messages[0].startswith("WARNING deformable convolution: numba cannot be used on cpu")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["numba", "sampling"])
def test_a_form_may_be_compiled_before_it_is_used_otherwise(run, form):
    if form == "numba":
        pytest.importorskip("numba")
    compiled = """
        import torch
        from nnmedseg.ops import deformable_depthwise_conv
        torch.manual_seed(0)
        inputs = torch.randn(2, 4, 6, 7), torch.randn(2, 18, 6, 7), torch.randn(4, 1, 3, 3)
        program = torch.compile(deformable_depthwise_conv, backend="eager", fullgraph=True)
        print(float((program(*inputs) - deformable_depthwise_conv(*inputs)).abs().max()))
    """
    assert run(compiled, form=form) == ([0.0], [])


def test_an_unknown_form_names_the_known_ones(monkeypatch):
    monkeypatch.setenv("NNMEDSEG_DEFORMABLE", "quick")
    x, offset, weight = torch.ones(1, 4, 5, 6), torch.ones(1, 18, 5, 6), torch.ones(4, 1, 3, 3)
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(UserError, match="numba, sampling, torchvision"):
            deformable_depthwise_conv(x.to(dtype), offset.to(dtype), weight.to(dtype))
