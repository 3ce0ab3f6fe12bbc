"""Which form of the selective scan is used, and what happens where one does not work."""

from __future__ import annotations

import importlib
import textwrap

import pytest
import torch

from nnmedseg.errors import UserError
from nnmedseg.networks.layers.mamba import MambaBlock
from nnmedseg.ops import selective_scan

SCAN = """
    import logging
    import torch
    from nnmedseg.ops import selective_scan
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    torch.manual_seed(0)
    tokens, states = torch.randn(1, 50, 4), torch.randn(1, 50, 3)
    u = tokens.clone().requires_grad_()
    for _ in range(2):
        out = selective_scan(u, tokens, -torch.ones(4, 3), states, states, dt_softplus=True)
        out.sum().backward()
    print(float(out.detach().sum()), float(u.grad.sum()))
"""


@pytest.fixture
def run(run_program):
    """Runs a program; returns its output and what it logs about the scan."""

    def run(program, *, form="", broken=None, interpreted=False):
        variables = {"NNMEDSEG_SCAN": form, "TRITON_INTERPRET": str(int(interpreted))}
        out, lines = run_program(program, broken=broken, **variables)
        return out, [line for line in lines if "selective scan" in line]

    return run


@pytest.mark.slow
def test_a_cpu_uses_numba_and_says_so_once(run):
    pytest.importorskip("numba")
    _, messages = run(SCAN)
    assert messages == ["INFO selective scan: numba on cpu"]


@pytest.mark.slow
def test_another_form_can_be_forced_and_gives_the_same(run):
    pytest.importorskip("numba")
    chunked, messages = run(SCAN, form="chunked")
    assert messages == ["INFO selective scan: chunked on cpu"]
    numba, _ = run(SCAN)
    expected = [float(number) for number in chunked.split()]
    assert [float(number) for number in numba.split()] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "broken"), [("", "numba"), ("triton", "triton"), ("mamba_ssm", "mamba_ssm")]
)
def test_a_form_that_cannot_be_imported_falls_back_with_one_warning(run, form, broken):
    expected, _ = run(SCAN, form="chunked")
    actual, messages = run(SCAN, form=form, broken=broken)
    assert actual == expected
    warning, chosen = messages
    assert warning == (
        f"WARNING selective scan: {broken} cannot be used on cpu "
        "(ImportError: undefined symbol: _ZN3foo); using chunked instead"
    )
    assert chosen == "INFO selective scan: chunked on cpu"


@pytest.mark.slow
def test_tritons_form_gives_the_same_where_it_runs(run):
    pytest.importorskip("triton")
    chunked, _ = run(SCAN, form="chunked")
    interpreted, messages = run(SCAN, form="triton", interpreted=True)
    assert messages == ["INFO selective scan: triton on cpu"]
    expected = [float(number) for number in chunked.split()]
    assert [float(number) for number in interpreted.split()] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_tritons_form_on_a_cpu_falls_back_with_one_warning(run):
    pytest.importorskip("triton")
    expected, _ = run(SCAN, form="chunked")
    actual, messages = run(SCAN, form="triton")
    assert actual == expected
    assert messages[0].startswith("WARNING selective scan: triton cannot be used on cpu")
    assert len(messages) == 2


@pytest.mark.slow
def test_a_form_that_gives_wrong_numbers_is_given_up(run):
    pytest.importorskip("numba")
    wrong = """
        from nnmedseg.ops import _scan_numba
        right = _scan_numba.scan
        _scan_numba.scan = lambda inputs: tuple(1.01 * x for x in right(inputs))
    """
    expected, _ = run(SCAN, form="chunked")
    actual, messages = run(textwrap.dedent(wrong) + textwrap.dedent(SCAN))
    assert actual == expected
    assert messages[0].startswith("WARNING selective scan: numba cannot be used on cpu")


def test_an_unknown_form_names_the_known_ones(monkeypatch):
    monkeypatch.setenv("NNMEDSEG_SCAN", "quick")
    tokens = torch.ones(1, 5, 4)
    with pytest.raises(UserError, match="chunked, mamba_ssm, numba, triton"):
        selective_scan(tokens, tokens, -torch.ones(4, 3), tokens[..., :3], tokens[..., :3])


def names(program):
    return {str(node.target) for node in program.graph.nodes}


def test_a_compiled_block_holds_the_forced_form(monkeypatch):
    pytest.importorskip("numba")
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    for form in ("chunked", "numba"):
        monkeypatch.setenv("NNMEDSEG_SCAN", form)
        torch.compiler.reset()
        torch.compile(MambaBlock(8), backend=backend, fullgraph=True)(torch.randn(1, 40, 8))
    assert [any("numba" in name for name in names(graph)) for graph in graphs] == [False, True]


@pytest.mark.slow
def test_a_compiled_block_may_be_the_first_to_scan(run):
    program = """
        import torch
        from nnmedseg.networks.layers.mamba import MambaBlock
        block = torch.compile(MambaBlock(8), backend="aot_eager", fullgraph=True)
        print(block(torch.randn(1, 40, 8)).shape)
    """
    assert run(program, form="chunked")[0] == "torch.Size([1, 40, 8])\n"


def test_kept_machine_code_is_that_of_all_kernels_texts(tmp_path):
    pytest.importorskip("numba")
    compiled = importlib.import_module("nnmedseg.ops._compiled")
    (tmp_path / "kernels.py").write_text("a = 1")
    (tmp_path / "helpers.py").write_text("b = 1")
    before = compiled.digest_of_sources(tmp_path)
    (tmp_path / "helpers.py").write_text("b = 2")
    after = compiled.digest_of_sources(tmp_path)

    def kernel():
        pass

    name = kernel.__qualname__
    compiled.jit(kernel)
    assert before != after
    assert kernel.__qualname__ == f"{name}_{compiled._SOURCES}"


def test_an_exported_block_holds_the_chunked_form(monkeypatch):
    monkeypatch.setenv("NNMEDSEG_SCAN", "numba")
    program = torch.export.export(MambaBlock(8), (torch.randn(1, 40, 8),))
    modules = [m for m in program.graph_module.modules() if hasattr(m, "graph")]
    targets = {target for module in modules for target in names(module)}
    assert "nnmedseg.selective_scan_chunked.default" in targets


THREADS_AND_PROCESSES = """
    import multiprocessing
    import threading
    import torch
    from nnmedseg.networks.layers.mamba import MambaBlock

    def train(seed, losses):
        generator = torch.Generator().manual_seed(seed)
        block = MambaBlock(8)
        tokens = torch.randn(4, 3000, 8, generator=generator)
        for _ in range(20):
            loss = block(tokens).square().mean()
            loss.backward()
            losses.append(float(loss))

    def load(connection):
        torch.set_num_threads(1)  # as nnU-Net's and PyTorch's loaders do
        block = MambaBlock(8)
        for _ in range(20):
            connection.send(float(block(torch.randn(2, 3000, 8)).mean()))

    torch.set_num_threads(2)
    block = MambaBlock(8)
    block(torch.randn(4, 3000, 8)).sum().backward()  # the threads exist before the fork
    fork = multiprocessing.get_context("fork")
    losses = [], []
    pipes = [fork.Pipe(duplex=False) for _ in range(4)]
    loaders = [fork.Process(target=load, args=(w,), daemon=True) for _, w in pipes]
    for loader in loaders:  # before any training: a fork amid PyTorch's own work may hang
        loader.start()
    trainers = [threading.Thread(target=train, args=(s, losses[s]), daemon=True) for s in (0, 1)]
    for trainer in trainers:
        trainer.start()
    received = [[reader.recv() for _ in range(20)] for reader, _ in pipes]
    for one in (*trainers, *loaders):
        one.join()
    print(all(len(x) == 20 for x in (*losses, *received)))
"""


@pytest.mark.slow
def test_a_forked_process_starts_threads_of_its_own(run):
    program = """
        import multiprocessing
        from nnmedseg.ops._threads import run_in_threads

        def load(connection):
            done = []
            run_in_threads(done.append, range(8))
            connection.send(sorted(done))

        run_in_threads(lambda task: None, range(8))
        reader, writer = multiprocessing.Pipe(duplex=False)
        multiprocessing.get_context("fork").Process(target=load, args=(writer,)).start()
        print(reader.recv() == list(range(8)))
    """
    assert run(program)[0] == "True\n"


@pytest.mark.slow
def test_two_training_threads_and_four_forked_loaders_end(run):
    out, messages = run(THREADS_AND_PROCESSES)
    assert out == "True\n"
    assert not messages
