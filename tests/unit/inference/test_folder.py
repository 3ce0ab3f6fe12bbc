"""A folder is predicted whatever lies in it, and nothing twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

import nnmedseg
from nnmedseg.errors import UserError, WeightsError
from nnmedseg.files import read_json
from nnmedseg.inference.folders import memory

from .plain_model import plain_model

START = "import sys; from nnmedseg.cli.predict import main; sys.exit(main())"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(nnmedseg.__file__).parents[1])}


def write_images(folder, count):
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (20 + number % 7, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"image{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return plain_model(tmp_path_factory.mktemp("model"), folds=(0, 1))


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", 4)


def predict(images, output, model, **options):
    options = {"device": "cpu", "folds": [0], "mirroring": False, **options}
    return nnmedseg.predict(images, output, model, **options)


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}


def outcomes(folder):
    return {
        each["case"]: each["outcome"] for each in read_json(folder / "predictions.json")["cases"]
    }


def test_one_file_of_garbage_stops_nothing(images, model, tmp_path):
    (images / "image001.png").write_bytes(b"\x89PNG\r\n\x1a\n garbage")
    manifest = predict(images, tmp_path / "out", model)
    assert [outcome.case for outcome in manifest.failed] == ["image001"]
    assert outcomes(tmp_path / "out")["image001"] == "failed"
    assert sorted(times(tmp_path / "out")) == [f"image00{n}.nii.gz" for n in (0, 2, 3)]


def test_a_truncated_file_is_an_error_of_its_own(images, model, tmp_path):
    content = (images / "image002.png").read_bytes()
    (images / "image002.png").write_bytes(content[: len(content) // 2])
    assert [each.case for each in predict(images, tmp_path / "out", model).failed] == ["image002"]


def test_an_image_that_does_not_fit_into_memory_is_refused_and_stops_nothing(
    images, model, tmp_path, monkeypatch
):
    facts = tmp_path / "meminfo"
    facts.write_text("MemTotal: 8192 kB\nMemAvailable: 64 kB\n")
    monkeypatch.setattr(memory, "MEMORY_FACTS", facts)
    Image.fromarray(np.zeros((400, 600, 3), np.uint8)).save(images / "large.png")
    (failed,) = predict(images, tmp_path / "out", model).failed
    assert failed.case == "large"
    assert "GiB beside the network, and 0.0 GiB are left" in failed.message


def test_failed_cases_are_tried_again(images, model, tmp_path):
    whole = (images / "image001.png").read_bytes()
    (images / "image001.png").write_bytes(b"garbage")
    predict(images, tmp_path / "out", model)
    (images / "image001.png").write_bytes(whole)
    assert not predict(images, tmp_path / "out", model).failed


def test_what_is_complete_is_not_predicted_again(images, model, tmp_path):
    predict(images, tmp_path / "out", model)
    before = times(tmp_path / "out")
    predict(images, tmp_path / "out", model)
    assert times(tmp_path / "out") == before


def test_overwriting_predicts_everything_again(images, model, tmp_path):
    predict(images, tmp_path / "out", model)
    before = times(tmp_path / "out")
    predict(images, tmp_path / "out", model, overwrite=True)
    assert all(after > before[name] for name, after in times(tmp_path / "out").items())


def test_a_mask_that_was_changed_is_predicted_again(images, model, tmp_path):
    predict(images, tmp_path / "out", model)
    mask = tmp_path / "out" / "image001.nii.gz"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:-8])
    predict(images, tmp_path / "out", model)
    image = SimpleITK.ReadImage(str(mask))
    assert image.GetSize() == (30, 21, 1)
    assert len(mask.read_bytes()) == len(whole)


def test_a_mask_of_another_model_is_predicted_again(images, model, tmp_path):
    predict(images, tmp_path / "out", model)
    before = times(tmp_path / "out")
    predict(images, tmp_path / "out", model, folds=[1])
    assert all(after > before[name] for name, after in times(tmp_path / "out").items())


def test_wanting_more_files_predicts_again(images, model, tmp_path):
    predict(images, tmp_path / "out", model)
    predict(images, tmp_path / "out", model, png=True)
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


def test_a_damaged_manifest_is_not_believed(images, model, tmp_path):
    predict(images, tmp_path / "out", model)
    manifest = tmp_path / "out" / "predictions.json"
    manifest.write_text(manifest.read_text()[:200])
    before = times(tmp_path / "out")
    predict(images, tmp_path / "out", model)
    assert all(after > before[name] for name, after in times(tmp_path / "out").items())
    assert len(outcomes(tmp_path / "out")) == 4


def test_a_checkpoint_with_a_changed_byte_is_refused(images, tmp_path):
    model = plain_model(tmp_path)
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        predict(images, tmp_path / "out", model)


def test_a_folder_of_garbage_alone_is_an_error(tmp_path, model):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"garbage")
    with pytest.raises(UserError, match="none of the 1 images could be predicted"):
        predict(tmp_path / "images", tmp_path / "out", model)


def test_a_full_disk_is_a_message(images, model, small_disk):
    (small_disk / "rest").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(UserError, match="make room"):
        predict(images, small_disk, model)
    assert not list(small_disk.glob("*.nii.gz"))


def test_the_command_tells_failures_by_its_exit_code(images, model, tmp_path):
    (images / "image001.png").write_bytes(b"garbage")
    ran = subprocess.run(
        command(images, tmp_path / "out", model),
        env=ENVIRONMENT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "3 masks in" in ran.stdout + ran.stderr
    assert "failed: image001" in ran.stdout + ran.stderr


def command(images, output, model):
    options = ("-m", model, "-f", "0", "--device", "cpu", "--disable-tta")
    return [sys.executable, "-c", START, "-i", images, "-o", output, *options]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_ended(model, tmp_path):
    images, output = write_images(tmp_path / "images", 60), tmp_path / "out"
    # Its tiles take minutes, so that there is time for the kill.
    Image.fromarray(np.zeros((3000, 3000, 3), np.uint8)).save(images / "image050.png")
    started = subprocess.Popen(
        command(images, output, model), env=ENVIRONMENT, cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    while not (output / "predictions.json").exists() and started.poll() is None:
        time.sleep(0.005)
    started.send_signal(signal.SIGKILL)
    started.wait()
    known = {case["case"] for case in read_json(output / "predictions.json")["cases"]}
    before = times(output)
    assert 0 < len(before) < 60
    assert known
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(images / "image050.png")
    subprocess.run(command(images, output, model), env=ENVIRONMENT, cwd=tmp_path, check=True)
    after = times(output)
    assert len(after) == 60
    assert all(after[f"{name}.nii.gz"] == before[f"{name}.nii.gz"] for name in known)
    assert not list(output.glob(".writing*.nii.gz"))
