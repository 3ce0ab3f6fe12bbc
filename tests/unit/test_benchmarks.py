"""The scripts in ``benchmarks`` run, and compare what computes the same."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nnmedseg.networks import create_network
from nnmedseg.ops import deformable_depthwise_conv, depthwise_conv, selective_scan, ssd
from nnmedseg.weights import load_encoder_weights

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def run(name, *options):
    return subprocess.run(
        [sys.executable, BENCHMARKS / name, *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def cells(output, title):
    lines = [line.strip("| ").split("|") for line in output.splitlines()]
    (found,) = (line for line in lines if line[0].strip() == title)
    return [cell.strip() for cell in found]


def largest_error(found, expected):
    return max(
        ((x - y).abs().max() / y.abs().max()).item() for x, y in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("scan", ["sequential_scan", "our_scan"])
@pytest.mark.parametrize("name", ["rosper", "asc"])
def test_networks_of_plain_modules_compute_the_same(script, name, scan):
    plain_networks = script("plain_networks")
    torch.manual_seed(0)
    network = create_network(name, 3, 2).eval()
    plain = plain_networks.plain_network(network, getattr(plain_networks, scan))
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert largest_error(network(image), plain(image)) < 1e-4


def test_sequential_scan_computes_the_same(script):
    scan_pass, peers = script("scan_pass"), script("peers")
    inputs = [x.detach().double().requires_grad_() for x in scan_pass.random_inputs(2, 33, 4)]
    incoming = torch.randn(2, 33, 4, dtype=torch.float64)
    ours = scan_pass.outcome(scan_pass.ours("chunked"), inputs, incoming)
    theirs = scan_pass.outcome(
        peers.sequential_scan, scan_pass.as_peer_reads(inputs), incoming.transpose(1, 2)
    )
    theirs = [x.transpose(1, 2) if x.ndim == 3 else x for x in theirs]
    assert largest_error(ours, theirs) < 1e-12


def test_per_head_ssd_computes_the_same(script):
    vectors = [torch.randn(2, 20, 1, 5, dtype=torch.float64) for _ in range(2)]
    x = torch.randn(2, 20, 3, 4, dtype=torch.float64)
    inputs = x, x[..., 0].abs(), -torch.rand(3).double(), *vectors, torch.rand(3).double()
    torch.testing.assert_close(script("peers").per_head_ssd(*inputs), ssd.noncausal_ssd(*inputs))


def test_convolutions_of_peers_compute_the_same(script):
    peers = script("peers")
    x, offset = torch.randn(2, 5, 8, 9).double(), torch.randn(2, 18, 8, 9).double()
    weight, wide = torch.randn(5, 1, 3, 3).double(), torch.randn(5, 1, 1, 7).double()
    pairs = [(peers.native_depthwise(x, wide), depthwise_conv(x, wide))]
    if importlib.util.find_spec("torchvision"):
        inputs = x, offset, weight
        theirs = peers.torchvision_deformable(*inputs)
        pairs.append((theirs, deformable_depthwise_conv(*inputs)))
    for theirs, ours in pairs:
        torch.testing.assert_close(theirs, ours)


def test_backward_pass_counts_to_the_operator_that_it_belongs_to(script):
    shares = script("operator_shares")
    vectors = torch.rand(1, 300, 1, 16)
    x = torch.rand(1, 300, 4, 16, requires_grad=True)

    def training():
        out = ssd.noncausal_ssd(x, x[..., 0], -torch.ones(4), vectors, vectors, torch.ones(4))
        out.sum().backward()

    training()
    found, _ = shares.profiled(training, torch.device("cpu"))
    assert found["SSD"] > 0
    assert found["products and attention"] == 0  # its backward pass has two
    assert sum(found.values()) == pytest.approx(1)


def test_labels_are_gone_after_profiling(script):
    before = ssd.noncausal_ssd
    with script("operator_shares").labelled_operators():
        assert ssd.noncausal_ssd is not before
    assert ssd.noncausal_ssd is before


def test_slope_is_the_power_of_growth(script):
    sizes = [10, 20, 40]
    assert script("scaling").slope(sizes, [3 * size**2 for size in sizes]) == pytest.approx(2)


def test_report_says_which_required_figures_are_missed(script, tmp_path, capsys):
    report_module, path = script("report"), tmp_path / "report.md"
    report = report_module.Report("Title", path)
    report.table(report_module.SPEED_COLUMNS)
    for name, ratio in (("quick", 4.0), ("slow", 2.0)):
        target = report_module.Target(required=3, aim=5)
        report.speed(name, "ours", (1.0, ratio), ratio, target)
    report.summary()
    output = capsys.readouterr().out
    assert cells(output, "quick")[-4:] == ["3x", "yes", "5x", "no"]
    assert cells(output, "slow")[-4:] == ["3x", "NO", "5x", "no"]
    assert "Reached 1 of 2" in output
    assert "- slow, ours" in output
    assert output in path.read_text()


def test_forms_that_do_not_run_here_are_named(script, monkeypatch):
    monkeypatch.setenv("NNMEDSEG_SCAN", "chunked")
    forms, tokens = script("forms"), torch.rand(1, 4, 2)

    def scan():
        selective_scan(tokens, tokens, -torch.ones(2, 3), torch.rand(1, 4, 3), torch.rand(1, 4, 3))

    found, notes = forms.available(forms.SCAN, ["chunked", "absent"], scan)
    assert found == ["chunked"]
    assert notes == ["NNMEDSEG_SCAN=absent is not measured: this version does not have it"]
    assert os.environ["NNMEDSEG_SCAN"] == "chunked"


@pytest.mark.slow
def test_kernels_prints_required_ratios():
    output = run("kernels.py", "--only", "ssd", "depthwise", "--repeats", "1")
    assert cells(output, "forward, 3136 tokens, 3 heads")[5] == "1.5x"
    assert cells(output, "15x15, 2 x 16 x 256 x 256")[7] == "13x"


@pytest.mark.slow
def test_scan_memory_grows_with_the_length(script):
    scan_memory = script("scan_memory")
    sizes = [
        scan_memory.extra_bytes(scan_memory.Task("chunked", 2, length, 8, 1))
        for length in (2**12, 2**15)
    ]
    if None not in sizes:
        assert 0 < sizes[0] < sizes[1]


@pytest.mark.slow
def test_networks_prints_positive_figures_beside_the_peer(tmp_path):
    table = tmp_path / "table.md"
    options = ["--only", "unet", "--device", "cpu", "--networks", "asc", "--size", "64"]
    output = run("networks.py", *options, "--repeats", "1", "--output", str(table))
    for title in ("PlainConvUNet", "asc"):
        *figures, operators = cells(output, title)[2:]
        if sys.platform == "win32":  # which does not tell the peak of a process
            figures = [x for x in figures if x != "-"]
        assert all(float(figure) > 0 for figure in figures)
        assert operators.count("%") == 3
    assert output.count("| asc, 64 x 64") == 2
    assert output in table.read_text()


@pytest.mark.slow
def test_networks_says_which_passes_took_too_long():
    options = ["--only", "unet", "--device", "cpu", "--networks", "asc", "--budget", "0.1"]
    assert cells(run("networks.py", *options), "asc")[2:6] == ["over 0.1 s", "-", "-", "over 0.1 s"]


@pytest.mark.slow
def test_conversion_prints_rates_of_the_floor_and_of_both_kinds_of_files(tmp_path):
    table = tmp_path / "table.md"
    output = run("conversion.py", "--images", "6", "--turns", "1", "--output", str(table))
    for ending in ("jpg", "png"):
        floor, one, two, ratio, _, gain, _ = cells(output, ending)[1:]
        assert float(floor) > 0
        assert float(ratio) == pytest.approx(float(one) / float(floor), abs=0.02)
        assert float(gain) == pytest.approx(float(two) / float(one), abs=0.02)
    assert output in table.read_text()


@pytest.mark.slow
def test_planning_prints_ratios_of_predicted_to_measured_memory(tmp_path):
    table = tmp_path / "table.md"
    options = ["--networks", "condseg_stage1", "timm ConvNeXt", "--patches", "64x96"]
    output = run("planning.py", *options, "--output", str(table))
    for network in ("condseg_stage1", "timm ConvNeXt"):
        saved, measured, ratio, *step = cells(output.split("## Planning for")[0], network)[2:8]
        assert float(saved) / float(measured) == pytest.approx(float(ratio), abs=0.01)
        assert float(step[2]) == pytest.approx(1, abs=0.02)
    assert "planning all networks" in output
    assert output in table.read_text()


def test_a_measurement_that_fails_is_told_in_its_row(script):
    planning, memory = script("planning"), script("training_memory")

    def out_of_memory(_case):
        raise torch.cuda.OutOfMemoryError("too little")

    failure = memory.attempted(out_of_memory, "case")
    deviations = planning.Deviations()
    assert deviations.compare("table", 2**20, failure) == ["OutOfMemoryError: too little", "-"]
    assert deviations.largest["table"] == float("inf")
    assert deviations.compare("table", 3 * 2**20, 2 * 2**20) == ["2.0", "1.500"]


def test_ratios_of_rates_and_of_amounts_say_how_many_times_better_ours_is(script, capsys):
    report_module = script("report")
    report = report_module.Report("Title", None)
    report.table(report_module.RATIO_COLUMNS)
    report.ratio("rate", "ours", (30.0, 10.0), "cases/s", 2)
    report.ratio("amount", "ours", (30.0, 10.0), "MiB", 2)
    output = capsys.readouterr().out
    assert cells(output, "rate")[-3:] == ["3.0x", "2x", "yes"]
    assert cells(output, "amount")[-3:] == ["0.3x", "2x", "NO"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is read from /proc")
def test_memory_of_a_command_is_that_of_all_its_processes(script):
    child = "import time; held = bytearray(60 * 2**20); time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    usage = script("process_tree").measure([sys.executable, "-c", parent], os.environ)
    assert 60 * 2**20 < usage.peak < 200 * 2**20
    assert usage.seconds > 0.5


def test_a_command_that_fails_is_not_measured(script):
    with pytest.raises(subprocess.CalledProcessError):
        script("process_tree").measure([sys.executable, "-c", "raise SystemExit(3)"], os.environ)


@pytest.mark.slow
def test_preprocessing_prints_ratios_beside_nnunets_commands(tmp_path):
    table = tmp_path / "table.md"
    data = Path(__file__).parents[1] / "data"
    options = ["--data", str(data), "--turns", "1", "--workers", "1", "--output", str(table)]
    output = run("preprocessing.py", *options)
    for title in ("fingerprint and preprocessing", "preprocessed files"):
        ours, peer = (float(figure) for figure in cells(output, title)[2:4])
        assert min(ours, peer) > 0
    assert output.count("| read a patch and its mask") == 3
    assert "Labels are equal" in output
    assert output in table.read_text()


@pytest.mark.slow
def test_inference_volume_prints_ratios_beside_nnunets_export(tmp_path):
    table = tmp_path / "table.md"
    options = ["--shape", "12", "48", "48", "--from-shape", "8", "32", "32", "--turns", "1"]
    output = run("inference_volume.py", *options, "--output", str(table))
    for title in ("export", "peak memory"):
        ours, peer = (float(figure) for figure in cells(output, title)[2:4])
        assert min(ours, peer) > 0
    assert float(cells(output, "1 - smallest Dice")[2]) < 0.001
    assert output in table.read_text()


def test_inference_volume_tells_dice_of_the_worst_class(script, tmp_path):
    inference_volume = script("inference_volume")
    theirs = np.array([[[0, 0, 0, 1, 1, 2, 2, 2]]], np.uint8)
    ours = np.array([[[0, 0, 0, 1, 1, 2, 2, 1]]], np.uint8)
    np.save(tmp_path / "ours.npy", ours)
    np.save(tmp_path / "nnunet.npy", theirs)
    bench = inference_volume.Bench(tmp_path, threads=1, memory=0, turns=1)
    volume = inference_volume.Volume(4, (1, 1, 8), (1, 1, 8))
    assert inference_volume.compare(bench, volume) == (0.125, 0.8)


def test_a_stand_in_for_sam_is_a_file_to_start_from(tmp_path):
    """It holds all of SAM that the network has, and changes what the network computes."""
    options = BENCHMARKS / "small_sam.json"
    output = tmp_path / "stand_in.pth"
    settings = ("--network-options", options, "--batches", 1, "--batch-size", 1, "--output", output)
    run("stand_in_sam.py", *map(str, settings))
    arguments = json.loads(options.read_text())["promise_apm_ips"]
    network = create_network("promise_apm_ips", input_channels=3, num_classes=2, **arguments)
    before = {name: value.clone() for name, value in network.sam.state_dict().items()}
    report = load_encoder_weights("promise_apm_ips", network, output)
    assert len(report.loaded) == len(before)
    assert any(not value.equal(before[name]) for name, value in network.sam.state_dict().items())
