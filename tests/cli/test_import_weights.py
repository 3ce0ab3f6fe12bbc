"""The authors' checkpoints become model folders that the commands run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from torch.nn import functional

from nnmedseg.cli import import_weights, predict
from nnmedseg.files import read_json, write_json
from nnmedseg.weights import from_reference

_DATA = Path(__file__).parents[1] / "data"
_IMAGES = sorted(_DATA.glob("ISIC2018/**/*.jpg"))


def golden_state(name):
    spec = importlib.util.spec_from_file_location("fill", _DATA / "golden" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    state = fill.load(_DATA / "golden" / f"{name}.npz")[1]
    return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


@pytest.fixture(scope="module")
def asc_state():
    """Weights with which half of the first image is foreground."""
    state = golden_state("asc")
    with torch.no_grad():
        (logits, *_) = from_reference("asc", state)(as_the_authors_see_it(_IMAGES[0]))
    state["final.ph1.pro.0.bias"] -= logits.median()
    return state


@pytest.fixture(scope="module")
def checkpoint(asc_state, tmp_path_factory):
    """A checkpoint as ASC-Seg's training script writes it."""
    path = tmp_path_factory.mktemp("authors") / "best.pth"
    state = {**asc_state, "total_ops": torch.zeros(1), "total_params": torch.zeros(1)}
    torch.save({"epoch": 7, "min_loss": 0.9, "model_state_dict": state}, path)
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(_IMAGES[0], folder)
    return folder


def as_the_authors_see_it(path):
    pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), np.float32))
    pixels = pixels.permute(2, 0, 1)[None]
    pixels = 255 * (pixels - pixels.min()) / (pixels.max() - pixels.min())
    return functional.interpolate(pixels, (256, 256), mode="bilinear")


def test_an_imported_model_predicts_the_authors_masks(checkpoint, asc_state, images, tmp_path):
    model, masks = tmp_path / "model", tmp_path / "masks"
    assert import_weights.main(["asc", str(checkpoint), "-o", str(model)]) == 0
    assert predict.main(["-i", str(images), "-o", str(masks), "-m", str(model)]) == 0
    image = next(images.iterdir())
    with torch.no_grad():
        (logits, *_) = from_reference("asc", asc_state)(as_the_authors_see_it(image))
    size = Image.open(image).size[::-1]
    expected = functional.interpolate(logits, size, mode="bilinear")[0, 0] > 0
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(masks / f"{image.stem}.nii.gz"))
    assert 0.2 < expected.float().mean() < 0.8
    assert np.mean(found.squeeze() == expected.numpy()) > 0.999


def test_what_was_ignored_is_said(checkpoint, tmp_path, capsys):
    assert import_weights.main(["asc", str(checkpoint), "-o", str(tmp_path / "model")]) == 0
    assert "ignored 2 entries of the checkpoint: counters" in capsys.readouterr().out


def test_an_existing_folder_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert import_weights.main(["asc", str(checkpoint), "-o", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_earlier_import_is_replaced_on_request_only(checkpoint, tmp_path):
    arguments = ["asc", str(checkpoint), "-o", str(tmp_path / "model")]
    assert [import_weights.main(arguments), import_weights.main(arguments)] == [0, 2]
    assert import_weights.main([*arguments, "--overwrite", "--size", "128", "160"]) == 0
    configuration = read_json(tmp_path / "model" / "plans.json")["configurations"]["2d"]
    assert configuration["patch_size"] == [128, 160]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"no checkpoint"), "cannot be read as weights"),
        (lambda path: torch.save({"conv1.weight": torch.zeros(3)}, path), "is missing"),
        (lambda path: torch.save([1, 2], path), "instead of named tensors"),
        (lambda path: torch.save({"run": subprocess.run}, path), "would run code"),
        (lambda path: None, "no such file"),
    ],
    ids=["garbage", "another network", "a list", "code", "missing"],
)
def test_a_file_that_is_no_checkpoint_is_a_users_mistake(tmp_path, capsys, write, message):
    write(tmp_path / "file.pth")
    output = tmp_path / "model"
    assert import_weights.main(["asc", str(tmp_path / "file.pth"), "-o", str(output)]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_an_option_needs_a_value(checkpoint, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        import_weights.main(["asc", str(checkpoint), "-o", str(tmp_path), "--option", "mixer"])


def test_an_unknown_option_is_a_users_mistake(checkpoint, tmp_path, capsys):
    arguments = ["asc", str(checkpoint), "-o", str(tmp_path / "m"), "--option", "mixer=causal"]
    assert import_weights.main(arguments) == 2
    assert "has no option 'mixer'" in capsys.readouterr().err


def test_condsegs_first_convolution_is_turned_to_red_green_blue(tmp_path):
    path, model = tmp_path / "best.pth", tmp_path / "model"
    state = golden_state("condseg_r50_stage1")
    torch.save(state, path)
    assert import_weights.main(["condseg_stage1", str(path), "-o", str(model)]) == 0
    saved = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=True)
    first = next(v for k, v in saved["network_weights"].items() if k.endswith("model.conv1.weight"))
    assert torch.equal(first, state["layer0.0.weight"].flip(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "fixture"),
    [
        ("rosper", "rosper"),
        ("condseg", "condseg_pvt_scaled"),
        ("condseg_stage1", "condseg_r50_stage1"),
        ("heteromedseg", "heteromedseg"),
        ("promise_apm", "promise_apm"),
        ("promise_apm_ips", "promise_apm_ips"),
        ("promise_ips_gt", "promise_ips_gt"),
    ],
)
def test_every_networks_checkpoint_becomes_a_model_that_predicts(
    network, fixture, images, tmp_path
):
    path, model, masks = tmp_path / "best.pth", tmp_path / "model", tmp_path / "masks"
    torch.save(golden_state(fixture), path)
    assert import_weights.main([network, str(path), "-o", str(model)]) == 0
    arguments = ["-i", str(images), "-o", str(masks), "-m", str(model)]
    if network == "promise_ips_gt":
        points = {path.stem: [{"x": 30, "y": 20, "label": 1}] for path in images.iterdir()}
        write_json(points, tmp_path / "points.json")
        arguments += ["--prompts", str(tmp_path / "points.json")]
    assert predict.main(arguments) == 0
    image = next(images.iterdir())
    mask = SimpleITK.ReadImage(masks / f"{image.stem}.nii.gz")
    assert mask.GetSize()[:2] == Image.open(image).size


def test_nothing_heavy_is_imported_to_show_the_help():
    code = (
        "import sys; from nnmedseg.cli import import_weights\n"
        "try: import_weights.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
