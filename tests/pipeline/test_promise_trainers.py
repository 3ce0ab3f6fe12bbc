"""ProMISe from its plans to a mask: what stays frozen, and where its points come from."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import nnmedseg
from nnmedseg.cli import predict as predict_command
from nnmedseg.data.images import read_image
from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.inference.folders.predict import predict_folder
from nnmedseg.inference.inputs.cases import find_cases
from nnmedseg.inference.inputs.prompts import PreparedCase, PromptsFromFile, open_prompts
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.networks.frozen import describe_frozen, frozen_weights_in
from nnmedseg.networks.layers.sam import build_sam

from .conftest import SMALL_OPTIONS

TRAINING = {
    "trainer": "ProMISePromptTrainer",
    "recipe": {"epochs": 2, "iterations": 1},
    "seed": 1,
    "device": "cpu",
}


@pytest.fixture(scope="session")
def sam_file(tmp_path_factory):
    """A small SAM under the names of the official files."""
    options = dict(read_json(SMALL_OPTIONS)["promise_ips_gt"])
    del options["num_points"], options["sam_size"]
    torch.manual_seed(0)
    state = build_sam(**options).state_dict()
    path = tmp_path_factory.mktemp("weights") / "sam_small.pth"
    torch.save({name.replace(".mlp.fc", ".mlp.lin"): x for name, x in state.items()}, path)
    return path


@pytest.fixture(scope="session")
def own(planned, tmp_path_factory):
    """The planned folders with results that no other test's trainings are in."""
    return replace(planned.folders, results=tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def fold(own, sam_file):
    return nnmedseg.train(2, "2d", 0, encoder_weights=sam_file, folders=own, **TRAINING)


@pytest.fixture
def model(fold, tmp_path, monkeypatch):
    """The model folder alone, somewhere else."""
    monkeypatch.delenv("nnUNet_results", raising=False)
    copy = tmp_path / fold.parent.name
    shutil.copytree(fold.parent, copy)
    return copy


@pytest.fixture
def validated(planned, fold):
    """Image and reference of the case that the training was validated on."""
    (mask,) = (fold / "validation").glob("*.png")
    return planned.dataset / "imagesTr" / f"{mask.stem}_0000.png", mask


def frozen_file(model):
    (file,) = model.glob("frozen_weights_*.pth")
    return file


# What is frozen.


def test_checkpoints_do_not_hold_sam(fold):
    for path in fold.glob("checkpoint_*.pth"):
        weights = torch.load(path, weights_only=True)["network_weights"]
        assert not [name for name in weights if ".sam." in name]
        assert path.stat().st_size < frozen_file(fold.parent).stat().st_size


def test_sam_is_the_same_after_the_training(fold, sam_file):
    given = torch.load(sam_file, weights_only=True)
    kept = torch.load(frozen_file(fold.parent), weights_only=True)
    kept = {name.removeprefix("network.sam."): x for name, x in kept.items()}
    kept = {name.replace(".mlp.fc", ".mlp.lin"): x for name, x in kept.items()}
    torch.testing.assert_close(kept, given, rtol=0, atol=0)


def test_the_optimiser_has_what_shifts_the_tokens_and_no_more(fold):
    content = torch.load(fold / "checkpoint_final.pth", weights_only=True)
    state = content["optimizer_state"]["state"]
    trained = [x for name, x in content["network_weights"].items() if ".ips." in name]
    assert sorted(x["exp_avg"].shape for x in state.values()) == sorted(x.shape for x in trained)
    assert all(x["exp_avg"].any() for x in state.values())


def test_the_record_says_which_sam_it_is(fold, sam_file):
    record = read_json(fold / "run.json")
    assert record["starts_from"] == {
        "file": "sam_small.pth",
        "bytes": sam_file.stat().st_size,
        "sha256": hashlib.sha256(sam_file.read_bytes()).hexdigest(),
    }
    assert record["frozen_weights"]["file"] == frozen_file(fold.parent).name


@pytest.mark.slow
def test_a_resumed_training_is_that_of_an_uninterrupted_one(fresh, fold, sam_file, monkeypatch):
    from nnmedseg.trainers.promise import ProMISePromptTrainer

    begin = ProMISePromptTrainer.on_epoch_start

    def stop_at_the_second(trainer):
        if trainer.current_epoch:
            raise KeyboardInterrupt
        begin(trainer)

    settings = {"encoder_weights": sam_file, "folders": fresh.folders, **TRAINING}
    with monkeypatch.context() as patched:
        patched.setattr(ProMISePromptTrainer, "on_epoch_start", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            nnmedseg.train(2, "2d", 0, **settings)
    torch.manual_seed(5)  # a new process would build another SAM
    resumed = nnmedseg.train(2, "2d", 0, must_continue=True, **settings)
    expected, found = (
        torch.load(folder / "checkpoint_final.pth", weights_only=True)["network_weights"]
        for folder in (fold, resumed)
    )
    assert found.pop("frozen_weights") == expected.pop("frozen_weights")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.slow
def test_folds_with_different_sams_predict_together(model, validated, planned):
    changed = {
        name: x + 0.1 for name, x in torch.load(frozen_file(model), weights_only=True).items()
    }
    note = describe_frozen(changed)
    torch.save(changed, model / note["file"])
    content = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=True)
    content["network_weights"]["frozen_weights"] = note
    (model / "fold_1").mkdir()
    torch.save(content, model / "fold_1" / "checkpoint_final.pth")
    first, second, both = (
        logits_of(MedSegPredictor.from_folder(model, folds, mirroring=False), validated, planned)
        for folds in ([0], [1], [0, 1])
    )
    assert (first - second).abs().max() > 1e-2
    torch.testing.assert_close(both, (first + second) / 2, rtol=1e-2, atol=1e-2)


def logits_of(predictor, validated, planned):
    image, _ = validated
    (case,) = find_cases(image, 3, pictures=True)
    loaded = predictor.load(case)
    data, properties = predictor.preprocess(loaded)
    prompts = open_prompts(predictor, masks=planned.dataset / "labelsTr")
    prepared = PreparedCase(case, loaded, tuple(data.shape[1:]), properties)
    return predictor.predict_logits_from_preprocessed_data(
        torch.cat([data, prompts.maps(prepared)])
    ).float()


def test_a_model_without_its_frozen_weights_names_the_file(model):
    file = frozen_file(model)
    file.unlink()
    with pytest.raises(NotFoundError, match=file.name):
        MedSegPredictor.from_folder(model, [0])


@pytest.mark.slow
def test_random_weights_for_sam_are_warned_of(fresh, caplog):
    recipe = {"epochs": 1, "iterations": 1}
    nnmedseg.train(
        2, "2d", 0, encoder_weights="none", folders=fresh.folders, **{**TRAINING, "recipe": recipe}
    )
    assert "SAM's weights are random and stay so" in caplog.text


# Where the points come from.


def test_numbers_of_an_oracle_are_marked_as_such(fold):
    summary = read_json(fold / "validation" / "summary.json")
    assert summary["prompts"] == read_json(fold / "run.json")["prompts"]
    assert summary["prompts"] == "from the reference masks"
    (log,) = fold.glob("training_log_*.txt")
    assert "is an oracle's" in log.read_text()


@pytest.mark.slow
def test_a_moved_model_predicts_what_the_training_validated(model, validated, planned, tmp_path):
    image, expected = validated
    nnmedseg.predict(
        image, tmp_path / "masks", model, device="cpu", png=True,
        prompts_from=planned.dataset / "labelsTr",
    )  # fmt: skip
    found = read_image(tmp_path / "masks" / expected.name) > 0
    # Training reads pixels that were rounded to whole numbers when they were stored.
    assert (found != (read_image(expected) > 0)).mean() < 0.001


def test_without_prompts_the_command_says_so_and_exits_with_2(model, validated, tmp_path, capsys):
    arguments = ["-i", str(validated[0]), "-o", str(tmp_path / "masks"), "-m", str(model)]
    arguments += ["--workspace", str(tmp_path / "workspace"), "--device", "cpu"]
    assert predict_command.main(arguments) == 2
    message = capsys.readouterr().err
    assert "--prompts FILE" in message
    assert "--prompts-from FOLDER_OF_MASKS" in message
    assert not (tmp_path / "masks").exists()


def test_nnunets_predictor_refuses_with_the_same_advice(model, validated):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    theirs = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    with frozen_weights_in(model):
        theirs.initialize_from_trained_model_folder(str(model), [0])
    with pytest.raises(UserError, match="--prompts-from"):
        theirs.predict_sliding_window_return_logits(torch.zeros(3, 1, 32, 48))


def test_a_model_that_takes_no_prompts_refuses_them(trained, validated, tmp_path):
    with pytest.raises(UserError, match="takes no prompts"):
        nnmedseg.predict(
            validated[0], tmp_path, trained.model, device="cpu", prompts_from=validated[1].parent
        )


@pytest.fixture
def framed(validated, planned, tmp_path):
    """The image in a black frame, with the mask of its object."""
    folder = tmp_path / "framed"
    folder.mkdir()
    margins = ((37, 11), (5, 60))
    pixels = np.pad(read_image(validated[0]), (*margins, (0, 0)))
    mask = np.pad(read_image(planned.dataset / "labelsTr" / validated[1].name), margins) > 0
    Image.fromarray(pixels).save(folder / "framed.png")
    return folder, mask


def prompts_in(path, **cases):
    points = {
        name: [{"x": int(x), "y": int(y), "label": label} for x, y, label in entries]
        for name, entries in cases.items()
    }
    write_json(points, path)
    return path


def test_a_point_on_the_object_lands_on_it_through_cropping_and_resizing(model, framed, tmp_path):
    folder, mask = framed
    predictor = MedSegPredictor.from_folder(model, [0])
    (case,) = find_cases(folder, 3, pictures=True)
    loaded = predictor.load(case)
    data, properties = predictor.preprocess(loaded)
    labels = predictor.preprocess_labels(loaded, mask[None].astype(np.int16))[0]
    assert data.shape[2] < mask.shape[0] / 2  # it is shrunk, and by cropping alone it would not be
    inside = np.argwhere(ndimage.binary_erosion(mask, iterations=5))[::97]
    outside = np.argwhere(ndimage.binary_erosion(~mask, iterations=5))[::997]
    for places, label in ((inside, 1), (outside, 0)):
        entries = [(x, y, label) for y, x in places]
        path = prompts_in(tmp_path / "prompts.json", framed=entries)
        prepared = PreparedCase(case, loaded, tuple(data.shape[1:]), properties)
        maps = PromptsFromFile(predictor, path).maps(prepared)[0].numpy()
        assert (np.sign(maps[maps != 0]) == (1 if label else -1)).all()
        assert (np.maximum(labels, 0)[maps != 0] == label).all()
        assert 0 < np.abs(maps).sum() <= len(places)


@pytest.mark.slow
def test_other_points_give_other_masks_and_are_predicted_anew(model, framed, tmp_path):
    folder, mask = framed
    predictor = MedSegPredictor.from_folder(model, [0])
    (case,) = find_cases(folder, 3, pictures=True)
    loaded = predictor.load(case)
    data, properties = predictor.preprocess(loaded)
    y, x = np.argwhere(mask)[len(np.argwhere(mask)) // 2]
    logits = []
    for label in (1, 0):
        path = prompts_in(tmp_path / f"{label}.json", framed=[(x, y, label)])
        prepared = PreparedCase(case, loaded, tuple(data.shape[1:]), properties)
        maps = PromptsFromFile(predictor, path).maps(prepared)
        logits.append(predictor.predict_logits_from_preprocessed_data(torch.cat([data, maps])))
        manifest = predict_folder(
            predictor, folder, tmp_path / "masks", prompts=open_prompts(predictor, path)
        )
        assert manifest.model["prompts"]["file"] == path.name
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_an_image_without_points_fails_alone(model, framed, validated, tmp_path):
    folder, _ = framed
    shutil.copy(validated[0], folder / "other.png")
    path = prompts_in(tmp_path / "prompts.json", other=[(50, 50, 1)])
    manifest = nnmedseg.predict(folder, tmp_path / "masks", model, device="cpu", prompts=path)
    assert [outcome.case for outcome in manifest.failed] == ["framed"]
    assert "there are no points for 'framed'" in manifest.failed[0].message


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(5000, 10, 1)], "x=5000, y=10, z=0 is outside"),
        ([(100, 100, 1), (100, 100, 0)], "fall on the same pixel"),
    ],
    ids=["outside", "contradicting"],
)
def test_points_that_do_not_fit_the_image_are_explained(model, framed, tmp_path, points, message):
    path = prompts_in(tmp_path / "prompts.json", framed=points)
    with pytest.raises(UserError, match=message):
        nnmedseg.predict(framed[0], tmp_path / "masks", model, device="cpu", prompts=path)
