"""ASC-Seg computes what the authors' code computes, with the tolerances of its fixture."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nnmedseg.networks.layers.resampling import enlarge
from nnmedseg.weights import from_reference

pytestmark = pytest.mark.usefixtures("one_thread")

STAGES = range(4)
ENCODER = {
    "": "",
    ".pm": ".pmb",
    ".dc.deform.deform": ".dcb.deformable",
    ".dc.deform": ".dcb.fuse.1",
    ".dc": ".dcb",
}
DECODER = {
    **{f".msfa.cfe{k + 1}": f".msfa.same.{k}" for k in range(4)},
    **{f".msfa.cfe{k + 5}": f".msfa.enlarged.{k}" for k in range(2)},
    **{f".msfa.cfe{k + 7}": f".msfa.reduced.{k}" for k in range(2)},
    ".msfa": ".msfa",
    ".sf.attention.0": ".sfm.dfb",
    ".sf.attention.1": ".sfm.sab",
    ".sf.attention.2": ".sfm.cab",
    ".sf": ".sfm",
    "": "",
}
OUR_MODULES = {
    **{f"encoder.eb{n + 1}{a}": f"encoder.{n}{b}" for n in STAGES for a, b in ENCODER.items()},
    **{f"decoder.cnsd.{n}{a}": f"decoder.{n}{b}" for n in STAGES for a, b in DECODER.items()},
    **{f"decoder.fac.{n}": f"connect.{n}" for n in range(3)},
}


@pytest.fixture(scope="module")
def golden(load_golden):
    return load_golden("asc")


@pytest.fixture(scope="module")
def seen(golden):
    """Inputs and output of every module for the fixture's image; the network's name is empty."""
    seen = {}
    network = from_reference("asc", golden[1])
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: (inputs, output)})
        )
    with torch.no_grad():
        network(golden[2]["input"])
    return seen


def assert_golden(actual, expected, meta):
    torch.testing.assert_close(actual, expected, rtol=meta["rtol"], atol=meta["atol"])


def summary(output):
    """The first 32 values, the mean and the population standard deviation."""
    values = output.flatten()
    return torch.cat([values[:32], values.mean()[None], values.std(correction=0)[None]])


@pytest.mark.parametrize("level", STAGES)
def test_logits(golden, seen, level):
    meta, _, arrays = golden
    assert_golden(seen[""][1][level], arrays[f"output_{level + 4}"], meta)


@pytest.mark.parametrize("level", STAGES)
def test_probabilities(golden, seen, level):
    meta, _, arrays = golden
    probabilities = seen[f"heads.{level}"][1].sigmoid()
    assert_golden(probabilities, arrays[f"output_{level}"], meta)
    assert_golden(summary(probabilities), arrays[f"mid/final.ph{level + 1}"], meta)


@pytest.mark.parametrize(("theirs", "ours"), OUR_MODULES.items(), ids=OUR_MODULES)
def test_inside(golden, seen, theirs, ours):
    meta, _, arrays = golden
    output = seen[ours][1]
    if ".enlarged." in ours:  # their branches bring the map back to its size, our module does
        output = functional.max_pool2d(output, 2)
    elif ".reduced." in ours:
        output = enlarge(output)
    assert_golden(summary(output), arrays[f"mid/{theirs}"], meta)


def test_everything_in_the_fixture_is_compared(golden):
    inside = {key.removeprefix("mid/") for key in golden[2] if key.startswith("mid/")}
    groups = {f"encoder.eb{n + 1}.pm.mamba@{k}" for n in STAGES for k in range(4)}
    heads = {f"final.ph{n + 1}" for n in STAGES}
    assert inside == {*OUR_MODULES, *groups, *heads}


@pytest.mark.parametrize("stage", STAGES)
def test_mamba_of_each_group(golden, seen, stage):
    meta, _, arrays = golden
    (tokens,), output = seen[f"encoder.{stage}.pmb.mamba"]
    for group, before_residual in enumerate((output - tokens).chunk(4, dim=-1)):
        expected = arrays[f"mid/encoder.eb{stage + 1}.pm.mamba@{group}"]
        assert_golden(summary(before_residual), expected, meta)
