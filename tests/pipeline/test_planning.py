"""From a converted data set to plans and preprocessed arrays."""

import json
import shutil

import numpy as np
import pytest

import nnmedseg
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.planners.fingerprint import extract_fingerprint

from .conftest import WORKING_SIZE


def configuration(workspace, plans, name="2d"):
    return read_json(workspace.preprocessed / f"{plans}.json")["configurations"][name]


def arrays(workspace):
    return workspace.preprocessed / configuration(workspace, "RoSPERPlans")["data_identifier"]


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_patch_is_a_multiple_of_the_networks_divisor(planned):
    assert all(side % 16 == 0 for side in configuration(planned, "RoSPERPlans")["patch_size"])


def test_the_batch_is_at_least_two(planned):
    assert configuration(planned, "RoSPERPlans")["batch_size"] >= 2


def test_all_plans_share_data_and_normalisation(planned):
    ours, stock = configuration(planned, "RoSPERPlans"), configuration(planned, "nnUNetPlans")
    for key in ("data_identifier", "spacing", "normalization_schemes"):
        assert ours[key] == stock[key]


def test_nnunets_plan_holds_its_own_network(planned):
    name = configuration(planned, "nnUNetPlans")["architecture"]["network_class_name"]
    assert name.endswith("PlainConvUNet")


def test_nnunets_own_resolution_names_only_what_stock_commands_find(planned):
    plans = read_json(planned.preprocessed / "RoSPERPlans.json")
    assert plans["image_reader_writer"] == "NaturalImage2DIO"
    assert plans["label_manager"] == "LabelManager"
    native = plans["configurations"]["2d_native"]
    assert native["preprocessor_name"] == "DefaultPreprocessor"
    assert native["resampling_fn_probabilities"] == "resample_torch_fornnunet"


def test_a_working_resolution_says_that_it_needs_this_package(planned):
    working = configuration(planned, "RoSPERPlans")
    assert working["preprocessor_name"] == "MedSegPreprocessor"
    assert working["nnmedseg"]["requires"] == "nnmedseg"


def test_the_papers_protocol_has_its_size_and_batch(planned):
    paper = configuration(planned, "RoSPERPlans", "2d_paper")
    assert paper["patch_size"] == [256, 256]
    assert paper["batch_size"] == 8
    assert paper["nnmedseg"]["input"]["size"] == [256, 256]


def test_papers_with_one_protocol_share_their_data(planned):
    identifiers = {
        configuration(planned, plans, "2d_paper")["data_identifier"]
        for plans in ("RoSPERPlans", "ASCSegPlans")
    }
    assert len(identifiers) == 1


def test_nnunet_has_no_paper_protocol(planned):
    assert "2d_paper" not in read_json(planned.preprocessed / "nnUNetPlans.json")["configurations"]


@pytest.mark.parametrize("plans", ["RoSPERPlans", "ASCSegPlans", "nnUNetPlans"])
def test_every_plan_predicts_its_memory(planned, plans):
    details = configuration(planned, plans)["nnmedseg"]
    assert 0.5 < details["predicted_memory_gib"] <= details["memory_target_gib"]


def test_the_plans_give_the_resolutions_reason_and_what_it_rests_on(planned):
    resolution = configuration(planned, "RoSPERPlans")["nnmedseg"]["resolution"]
    assert f"{WORKING_SIZE} pixels" in resolution["reason"]
    assert resolution["asked_for"] == WORKING_SIZE


def test_the_median_image_has_the_working_size(planned):
    assert min(configuration(planned, "RoSPERPlans")["median_image_size_in_voxels"]) == WORKING_SIZE


def test_every_training_case_is_preprocessed(planned):
    cases = {path.stem.removesuffix("_0000") for path in (planned.dataset / "imagesTr").iterdir()}
    assert {path.stem for path in arrays(planned).glob("*.uint8")} == cases


def test_the_masks_are_kept_for_validation(planned):
    copied = {path.name for path in (planned.preprocessed / "gt_segmentations").iterdir()}
    assert copied == {path.name for path in (planned.dataset / "labelsTr").iterdir()}


def test_the_fingerprint_agrees_with_nnunets(fresh):
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
        DatasetFingerprintExtractor,
    )

    ours = extract_fingerprint("Dataset002_ISIC2018", 2, folders=fresh.folders)
    stock_extractor = DatasetFingerprintExtractor("Dataset002_ISIC2018", 2)
    stock_extractor.num_foreground_voxels_for_intensitystats = 1e6
    stock = json.loads(json.dumps(stock_extractor.run(overwrite_existing=True)))
    assert sorted(ours["shapes_after_crop"]) == sorted(stock["shapes_after_crop"])
    for channel, facts in stock["foreground_intensity_properties_per_channel"].items():
        found = ours["foreground_intensity_properties_per_channel"][channel]
        for name in ("mean", "median", "std", "percentile_00_5", "percentile_99_5"):
            assert found[name] == pytest.approx(facts[name], abs=1.5), name


def test_planning_again_writes_no_array_again(fresh):
    before = times(arrays(fresh))
    nnmedseg.plan_and_preprocess(2, working_size=WORKING_SIZE, folders=fresh.folders)
    assert times(arrays(fresh)) == before


def test_an_interrupted_preprocessing_is_completed(fresh):
    folder = arrays(fresh)
    whole = times(folder)
    next(folder.glob("*.uint8")).unlink()
    (folder / ".writing-half.uint8").write_bytes(b"half")
    nnmedseg.plan_and_preprocess(2, working_size=WORKING_SIZE, folders=fresh.folders)
    assert set(times(folder)) == set(whole)


def test_changed_settings_make_the_arrays_anew(fresh):
    stamp = fresh.preprocessed / f"{arrays(fresh).name}.stamp.json"
    write_json({**read_json(stamp), "normalization_schemes": ["Other"]}, stamp)
    before = times(arrays(fresh))
    nnmedseg.plan_and_preprocess(2, working_size=WORKING_SIZE, folders=fresh.folders)
    after = times(arrays(fresh))
    assert all(after[name] > before[name] for name in before)


def test_another_resolution_leaves_the_first_one_in_place(fresh):
    first = arrays(fresh)
    nnmedseg.plan_and_preprocess(
        2, trainers=["RoSPERTrainer"], working_size=48, folders=fresh.folders
    )
    assert arrays(fresh) != first
    assert first.is_dir()
    assert configuration(fresh, "nnUNetPlans")["data_identifier"] == first.name


def test_planning_works_where_data_are_loaded_by_one_process(fresh, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    nnmedseg.plan_and_preprocess(2, trainers=["nnUNetTrainer"], folders=fresh.folders)
    assert configuration(fresh, "nnUNetPlans")["batch_size"] >= 2


def test_a_changed_split_is_refused(fresh):
    splits = read_json(fresh.dataset / "splits_final.json")
    write_json(splits[::-1], fresh.dataset / "splits_final.json")
    with pytest.raises(UserError, match="split"):
        nnmedseg.plan_and_preprocess(2, folders=fresh.folders)


def test_what_is_wrong_with_the_raw_data_is_listed_before_anything_is_written(fresh):
    shutil.rmtree(fresh.preprocessed)
    images = sorted((fresh.dataset / "imagesTr").iterdir())[:2]
    for image in images:
        image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(DataError) as error_info:
        nnmedseg.plan_and_preprocess(2, working_size=WORKING_SIZE, folders=fresh.folders)
    assert all(f"imagesTr/{image.name}" in str(error_info.value) for image in images)
    assert "nnmedseg_verify -d 2" in str(error_info.value)
    assert not fresh.preprocessed.exists()


def test_of_many_errors_the_first_thirty_are_listed(fresh):
    for number in range(40):
        (fresh.dataset / "imagesTr" / f"more_{number:02d}_0000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"and \d+ more") as error_info:
        nnmedseg.plan_and_preprocess(2, working_size=WORKING_SIZE, folders=fresh.folders)
    assert len([line for line in str(error_info.value).splitlines() if line[:4] == "    "]) == 31


def test_the_raw_data_are_verified_again_only_when_they_have_changed(fresh, caplog):
    def plan() -> str:
        caplog.clear()
        with caplog.at_level("INFO", logger="nnmedseg"):
            nnmedseg.plan_and_preprocess(
                2, trainers=["nnUNetTrainer"], working_size=WORKING_SIZE, folders=fresh.folders
            )
        return caplog.text

    plan()
    assert "Verifying" not in plan()
    (fresh.dataset / "imagesTr" / "notes.txt").write_text("")
    changed = plan()
    assert "Verifying" in changed
    assert "Warning: imagesTr/notes.txt" in changed


def test_preprocessed_arrays_equal_nnunets(fresh):
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    nnmedseg.plan_and_preprocess(
        2, trainers=["RoSPERTrainer"], configurations=["2d_native"], folders=fresh.folders
    )
    plans = PlansManager(str(fresh.preprocessed / "RoSPERPlans.json"))
    native = plans.get_configuration("2d_native")
    folder = str(fresh.preprocessed / native.data_identifier)
    dataset_class = infer_dataset_class(folder)
    case = min(dataset_class.get_identifiers(folder))
    expected, expected_mask, _ = DefaultPreprocessor(verbose=False).run_case(
        [str(fresh.dataset / "imagesTr" / f"{case}_0000.png")],
        str(fresh.dataset / "labelsTr" / f"{case}.png"),
        plans,
        native,
        read_json(fresh.dataset / "dataset.json"),
    )
    image, mask, _, _ = dataset_class(folder, [case]).load_case(case)
    assert np.allclose(image[:], expected, rtol=0, atol=1e-5)
    assert np.array_equal(mask[:], expected_mask)


def test_plans_that_are_not_ours_are_not_replaced(fresh):
    plans = fresh.preprocessed / "nnUNetPlans.json"
    write_json({**read_json(plans), "experiment_planner_used": "ExperimentPlanner"}, plans)
    before = plans.read_bytes()
    with pytest.raises(UserError, match="made by ExperimentPlanner"):
        nnmedseg.plan_and_preprocess(2, working_size=WORKING_SIZE, folders=fresh.folders)
    assert plans.read_bytes() == before


def test_configurations_that_a_user_has_added_stay(fresh):
    plans = fresh.preprocessed / "RoSPERPlans.json"
    content = read_json(plans)
    content["configurations"]["2d_mine"] = {"inherits_from": "2d", "batch_size": 3}
    write_json(content, plans)
    nnmedseg.plan(2, trainers=["RoSPERTrainer"], working_size=48, folders=fresh.folders)
    again = read_json(plans)["configurations"]
    assert again["2d_mine"] == {"inherits_from": "2d", "batch_size": 3}
    assert min(again["2d"]["median_image_size_in_voxels"]) == 48


def test_planning_alone_preprocesses_nothing(fresh):
    shutil.rmtree(arrays(fresh))
    nnmedseg.plan(2, trainers=["RoSPERTrainer"], working_size=WORKING_SIZE, folders=fresh.folders)
    assert not arrays(fresh).exists()


def test_the_configurations_asked_for_are_preprocessed(fresh):
    nnmedseg.plan_and_preprocess(
        2,
        trainers=["RoSPERTrainer"],
        configurations=["2d_paper", "2d_native"],
        working_size=WORKING_SIZE,
        folders=fresh.folders,
    )
    for name in ("2d_paper", "2d_native"):
        folder = configuration(fresh, "RoSPERPlans", name)["data_identifier"]
        assert (fresh.preprocessed / folder).is_dir()


def test_a_configuration_that_no_plan_has_names_those_that_there_are(fresh):
    with pytest.raises(NotFoundError, match="2d_native"):
        nnmedseg.plan_and_preprocess(
            2, trainers=["RoSPERTrainer"], configurations=["3d_fullres"], folders=fresh.folders
        )


def test_verification_can_be_left_out(fresh):
    (fresh.dataset / "imagesTr" / "notes.txt").write_text("")
    (fresh.preprocessed / "integrity.json").unlink()
    nnmedseg.plan(2, trainers=["nnUNetTrainer"], verify=False, folders=fresh.folders)
    assert not (fresh.preprocessed / "integrity.json").exists()
