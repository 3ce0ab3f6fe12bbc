"""Masks for a folder of images."""

import shutil

import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image

import nnmedseg
from nnmedseg.errors import NotFoundError, UserError, WeightsError
from nnmedseg.files import read_json, write_json


@pytest.fixture
def images(trained, tmp_path):
    """Two of the test images, one under a plain name and as JPEG."""
    first, second = sorted((trained.dataset / "imagesTs").iterdir())[:2]
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(first, folder / "first_0000.png")
    Image.open(second).save(folder / "second.jpg", quality=95)
    return folder


def predict(workspace, images, output, **changes):
    return nnmedseg.predict(images, output, workspace.model, device="cpu", **changes)


def test_each_image_gets_a_nifti_mask_of_its_size(trained, images, tmp_path):
    predict(trained, images, tmp_path / "masks")
    for name, source in (("first", "first_0000.png"), ("second", "second.jpg")):
        mask = SimpleITK.ReadImage(str(tmp_path / "masks" / f"{name}.nii.gz"))
        assert mask.GetSize() == (*Image.open(images / source).size, 1)
        assert mask.GetSpacing() == (1.0, 1.0, 1.0)
        assert set(np.unique(SimpleITK.GetArrayFromImage(mask))) <= {0, 1}


def test_png_masks_hold_0_and_255(trained, images, tmp_path):
    predict(trained, images, tmp_path / "masks", png=True)
    labels = SimpleITK.GetArrayFromImage(
        SimpleITK.ReadImage(str(tmp_path / "masks" / "first.nii.gz"))
    )
    picture = np.array(Image.open(tmp_path / "masks" / "first.png"))
    assert np.array_equal(picture, labels[0] * 255)


def test_the_manifest_says_what_became_of_each(trained, images, tmp_path):
    (images / "broken.png").write_bytes(b"no image")
    predict(trained, images, tmp_path / "masks")
    cases = read_json(tmp_path / "masks" / "predictions.json")["cases"]
    outcomes = {case["case"]: case["outcome"] for case in cases}
    assert outcomes == {"broken": "failed", "first": "predicted", "second": "predicted"}


def split_of(output):
    return read_json(output / "predictions.json")["model"]["split_sha256"]


def test_the_manifest_has_the_hash_of_the_split(trained, images, tmp_path):
    predict(trained, images, tmp_path / "masks")
    conversion = read_json(trained.dataset / "conversion.json")
    assert split_of(tmp_path / "masks") == conversion["split_sha256"]


def test_a_model_that_recorded_no_split_predicts(trained, images, tmp_path):
    model = tmp_path / trained.model.name
    shutil.copytree(trained.model, model)
    (model / "fold_0" / "run.json").unlink()
    nnmedseg.predict(images, tmp_path / "masks", model, device="cpu")
    assert split_of(tmp_path / "masks") is None


def test_folds_of_different_splits_are_pointed_out(two_folds, images, tmp_path, caplog):
    record = read_json(two_folds / "fold_1" / "run.json")
    write_json({**record, "split_sha256": "another"}, two_folds / "fold_1" / "run.json")
    with caplog.at_level("WARNING"):
        nnmedseg.predict(images, tmp_path / "masks", two_folds, device="cpu")
    assert "do not all say that they were trained with one split" in caplog.text
    assert split_of(tmp_path / "masks") is None


def test_a_second_run_skips_what_is_complete(trained, images, tmp_path):
    predict(trained, images, tmp_path / "masks")
    before = (tmp_path / "masks" / "first.nii.gz").stat().st_mtime_ns
    predict(trained, images, tmp_path / "masks")
    assert (tmp_path / "masks" / "first.nii.gz").stat().st_mtime_ns == before


def test_a_changed_image_is_predicted_again(trained, images, tmp_path):
    predict(trained, images, tmp_path / "masks")
    before = (tmp_path / "masks" / "first.nii.gz").stat().st_mtime_ns
    shutil.copyfile(images / "second.jpg", images / "first_0000.png")
    predict(trained, images, tmp_path / "masks")
    assert (tmp_path / "masks" / "first.nii.gz").stat().st_mtime_ns > before


def test_a_nifti_image_gives_a_mask_with_its_geometry(trained, tmp_path):
    volume = SimpleITK.GetImageFromArray(np.random.default_rng(0).random((3, 40, 50), np.float32))
    volume.SetSpacing((0.5, 0.5, 2.0))
    volume.SetOrigin((1.0, 2.0, 3.0))
    (tmp_path / "in").mkdir()
    SimpleITK.WriteImage(volume, str(tmp_path / "in" / "v.nii.gz"))
    predict(trained, tmp_path / "in", tmp_path / "masks")
    mask = SimpleITK.ReadImage(str(tmp_path / "masks" / "v.nii.gz"))
    assert mask.GetSize() == (50, 40, 3)
    assert mask.GetSpacing() == pytest.approx((0.5, 0.5, 2.0))
    assert mask.GetOrigin() == pytest.approx((1.0, 2.0, 3.0))


def test_mirrored_copies_are_averaged_unless_told_otherwise(trained, images):
    from nnmedseg.inference.inputs.cases import find_cases
    from nnmedseg.inference.predictor import MedSegPredictor

    logits = []
    for mirroring in (True, False):
        predictor = MedSegPredictor.from_folder(trained.model, [0], mirroring=mirroring)
        case = find_cases(images, 3, pictures=True)[0]
        data, _ = predictor.preprocess(predictor.load(case))
        logits.append(predictor.predict_logits_from_preprocessed_data(data))
    assert logits[0].shape == logits[1].shape
    assert not np.allclose(logits[0], logits[1])


@pytest.fixture
def two_folds(trained, tmp_path):
    """The model folder with a second fold of other weights."""
    model = tmp_path / trained.model.name
    shutil.copytree(trained.model, model)
    shutil.copytree(model / "fold_0", model / "fold_1")
    file = model / "fold_1" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    for values in checkpoint["network_weights"].values():
        if values.is_floating_point():
            values.mul_(0.5 + torch.rand_like(values))
    torch.save(checkpoint, file)
    return model


@pytest.mark.parametrize("folds", [[0], [0, 1]], ids=["one fold", "two folds"])
def test_fused_networks_give_the_logits_of_nnunets_predictor(two_folds, images, folds):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from nnmedseg.inference.inputs.cases import find_cases
    from nnmedseg.inference.predictor import MedSegPredictor

    ours = MedSegPredictor.from_folder(two_folds, folds, mirroring=False)
    theirs = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    theirs.initialize_from_trained_model_folder(str(two_folds), folds)
    assert (ours.network.network.is_fused, theirs.network.network.is_fused) == (True, False)
    data, _ = ours.preprocess(ours.load(find_cases(images, 3, pictures=True)[0]))
    logits, expected = (x.predict_logits_from_preprocessed_data(data) for x in (ours, theirs))
    # nnU-Net adds tiles up in float16.
    tolerance = 2e-3 * expected.abs().max().item()
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)


def test_an_all_black_image_is_predicted(trained, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "in" / "black.png")
    predict(trained, tmp_path / "in", tmp_path / "masks")
    mask = SimpleITK.ReadImage(str(tmp_path / "masks" / "black.nii.gz"))
    assert mask.GetSize() == (60, 40, 1)


def test_a_folder_of_unreadable_images_is_a_user_error(trained, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="none of the 1 images"):
        predict(trained, tmp_path / "in", tmp_path / "masks")


def test_a_missing_model_is_a_user_error(trained, images, tmp_path):
    with pytest.raises(NotFoundError, match="no trained model"):
        nnmedseg.predict(images, tmp_path / "masks", tmp_path / "nowhere")


def test_a_fold_that_is_not_trained_names_those_that_are(trained, images, tmp_path):
    with pytest.raises(NotFoundError, match="trained here: 0"):
        predict(trained, images, tmp_path / "masks", folds=[3])


def test_a_truncated_checkpoint_is_a_user_error(trained, images, tmp_path):
    model = tmp_path / trained.model.name
    shutil.copytree(trained.model, model)
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        nnmedseg.predict(images, tmp_path / "masks", model, device="cpu")


def test_several_folds_are_averaged(trained, images, tmp_path):
    model = tmp_path / trained.model.name
    shutil.copytree(trained.model, model)
    shutil.copytree(model / "fold_0", model / "fold_1")
    one = predict(trained, images, tmp_path / "one")
    both = nnmedseg.predict(images, tmp_path / "both", model, folds=[0, 1], device="cpu")
    masks = [
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / name / "first.nii.gz")))
        for name in ("one", "both")
    ]
    assert len(one.outcomes) == len(both.outcomes)
    assert np.array_equal(*masks)
