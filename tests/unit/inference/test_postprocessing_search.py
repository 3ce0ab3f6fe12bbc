"""Post-processing is learnt where it helps the held-out cases, and only there."""

import numpy as np
import pytest
from scipy import stats

import nnmedseg
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.inference.postprocessing.choice import SIGNIFICANCE, Trial, signed_rank_test
from nnmedseg.inference.postprocessing.rules import PostProcessing, Step
from nnmedseg.paths import resolve

from .validated_model import validated_model

SIDE = 48


def disc(random, radius, *, side=SIDE):
    centre = random.integers(radius + 2, side - radius - 2, 2)
    y, x = np.ogrid[:side, :side]
    return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2).astype(np.uint8)


def with_specks(random, reference):
    """Add single pixels around a mask."""
    return reference | ((random.random(reference.shape) < 0.02) & (reference == 0))


def with_holes(random, reference):
    return reference & (random.random(reference.shape) > 0.05)


def unchanged(_random, reference):
    return reference


def learn(model, tmp_path, **options):
    folders = resolve(tmp_path / "workspace")
    return nnmedseg.find_postprocessing(
        model.folder, references=model.references, folders=folders, **options
    )


def add_folds(model, damage, *, folds=2, cases=6, seed=0):
    """Add folds whose predictions are references that ``damage`` has changed."""
    random = np.random.default_rng(seed)
    for fold in range(folds):
        references = [disc(random, int(random.integers(6, 12))) for _ in range(cases)]
        model.add_fold(fold, [(damage(random, mask).astype(np.uint8), mask) for mask in references])
    return model


def names_of(found):
    return [step["name"] for target in found["targets"] for step in target["steps"]]


@pytest.fixture
def model(tmp_path):
    return validated_model(tmp_path)


def test_specks_are_learnt_to_be_removed(model, tmp_path):
    found = learn(add_folds(model, with_specks), tmp_path)
    assert names_of(found) in (["keep_largest"], ["remove_small"])
    assert found["evidence"]["mean_dice"]["after"] > found["evidence"]["mean_dice"]["before"]


def test_holes_are_learnt_to_be_filled(model, tmp_path):
    found = learn(add_folds(model, with_holes), tmp_path)
    assert "fill_holes" in names_of(found) or "closing" in names_of(found)


def test_right_masks_are_left_alone(model, tmp_path):
    found = learn(add_folds(model, unchanged), tmp_path)
    assert found["targets"] == []
    assert PostProcessing.from_model(model.folder) is None


def test_several_objects_are_not_cut_down_to_the_largest(model, tmp_path):
    random = np.random.default_rng(0)
    for fold in range(2):
        masks = [disc(random, 8) | disc(random, 4) for _ in range(6)]
        model.add_fold(fold, [(with_specks(random, mask), mask) for mask in masks])
    assert names_of(learn(model, tmp_path)) == ["remove_small"]


@pytest.mark.parametrize(
    ("changes", "helps"),
    [
        ({}, True),
        ({"after": 0.8}, False),
        ({"p": SIGNIFICANCE}, False),
        ({"fold_gains": {"0": 0.2, "1": 0.0}}, True),
        ({"fold_gains": {"0": 0.2, "1": -0.001}}, False),
    ],
)
def test_a_step_helps_if_the_mean_rises_no_fold_falls_and_it_is_no_chance(changes, helps):
    facts = {"step": Step("fill_holes"), "before": 0.8, "after": 0.9, "better": 8, "worse": 0}
    facts |= {"p": 0.004, "fold_gains": {"0": 0.2, "1": 0.1}, **changes}
    assert Trial(**facts).helps is helps


def test_what_may_be_chance_is_not_kept(model, tmp_path):
    random = np.random.default_rng(0)
    for fold in range(2):
        masks = [disc(random, 9) for _ in range(6)]
        damaged = [with_specks(random, mask) for mask in masks[:3]] + masks[3:]
        model.add_fold(fold, list(zip(damaged, masks, strict=True)))
    trials = learn(model, tmp_path)["evidence"]["labels"]["1"]["tried"]
    largest = next(trial for trial in trials if trial["step"] == "keep_largest")
    assert (largest["cases_better"], largest["cases_worse"]) == (6, 0)
    assert largest["p"] == pytest.approx(1 / 64)
    assert largest["p"] > SIGNIFICANCE
    assert not largest["kept"]


def test_each_label_has_steps_of_its_own(tmp_path):
    model = validated_model(tmp_path, labels={"organ": 1, "lesion": 2})
    random = np.random.default_rng(0)
    for fold in range(2):
        pairs = []
        for _ in range(6):
            organ = np.zeros((SIDE, SIDE), np.uint8)
            organ[:, : SIDE // 2] = disc(random, 7)[:, : SIDE // 2]
            lesion = np.zeros_like(organ)
            lesion[10:20, 30:40] = 2
            prediction = with_specks(random, organ) * (lesion == 0)
            pairs.append((prediction + lesion, organ * (lesion == 0) + lesion))
        model.add_fold(fold, pairs)
    assert [each["labels"] for each in learn(model, tmp_path)["targets"]] == [[1]]


def test_the_gain_without_a_cases_fold_is_that_of_steps_chosen_without_it(model, tmp_path):
    """A fold without which nothing can be learnt gains nothing."""
    random = np.random.default_rng(0)
    masks = [disc(random, 9) for _ in range(12)]
    model.add_fold(0, [(with_specks(random, mask), mask) for mask in masks[:10]])
    model.add_fold(1, [(mask, mask) for mask in masks[10:]])
    found = learn(model, tmp_path)
    assert names_of(found) == ["keep_largest"]
    assert found["evidence"]["chosen_without_fold"]["0"] == []
    means = found["evidence"]["mean_dice"]
    assert means["after_leaving_its_fold_out"] == means["before"] < means["after"]


def test_a_prediction_that_steps_empty_rightly_counts_as_right(model, tmp_path):
    random = np.random.default_rng(0)
    for fold in range(2):
        masks = [disc(random, 9) for _ in range(5)]
        empty = np.zeros((SIDE, SIDE), np.uint8)
        speck = empty.copy()
        speck[3, 3] = 1
        pairs = [(with_specks(random, mask), mask) for mask in masks]
        model.add_fold(fold, [*pairs, (speck, empty)])
    found = learn(model, tmp_path)
    assert names_of(found) == ["remove_small"]
    assert found["evidence"]["mean_dice"]["after"] == pytest.approx(1.0, abs=0.01)


def test_the_mean_before_is_that_of_the_masks(model, tmp_path):
    found = learn(add_folds(model, with_holes), tmp_path)
    scores = []
    for file in model.folder.glob("fold_*/validation/*.png"):
        overlap = nnmedseg.evaluate(file.parent, model.references, tmp_path / "scores.csv")
        scores.append(overlap["labels"][1]["dice"])
    before = found["evidence"]["mean_dice"]["before"]
    assert before == pytest.approx(np.mean(scores))


def test_pixels_to_ignore_speak_neither_for_nor_against(tmp_path):
    model = validated_model(tmp_path, labels={"lesion": 1, "ignore": 2})
    random = np.random.default_rng(0)
    for fold in range(2):
        masks = [disc(random, 9) for _ in range(6)]
        unknown = [np.where(mask == 0, 2, mask).astype(np.uint8) for mask in masks]
        specks = [with_specks(random, mask) for mask in masks]
        model.add_fold(fold, list(zip(specks, unknown, strict=True)))
    found = learn(model, tmp_path)
    assert found["targets"] == []
    assert found["evidence"]["mean_dice"]["before"] == 1.0


def test_volumes_are_measured_in_millimetres(tmp_path):
    model = validated_model(tmp_path, ending=".nii.gz")
    random = np.random.default_rng(0)
    for fold in range(2):
        masks = [np.repeat(disc(random, 7)[None], 6, axis=0) for _ in range(4)]
        model.add_fold(fold, [(with_specks(random, mask), mask) for mask in masks])
    found = learn(model, tmp_path)
    assert (found["dimensions"], found["unit"]) == (3, "mm")
    assert PostProcessing.from_model(model.folder).dimensions == 3


def test_one_fold_is_not_enough(model, tmp_path):
    with pytest.raises(UserError, match="at least two folds, and here only fold 0 is"):
        learn(add_folds(model, with_specks, folds=1), tmp_path)


def test_too_few_cases_teach_nothing(model, tmp_path, caplog):
    found = learn(add_folds(model, with_specks, cases=3), tmp_path)
    assert "fewer than 7 validation cases have it" in caplog.text
    assert found["evidence"]["labels"]["1"]["tried"] == []
    assert found["targets"] == []


def test_a_missing_reference_is_named(model, tmp_path):
    add_folds(model, with_specks)
    (model.references / "case_1_02.png").unlink()
    with pytest.raises(NotFoundError, match="case_1_02"):
        learn(model, tmp_path)


def test_a_reference_of_another_size_is_named(model, tmp_path):
    add_folds(model, with_specks)
    other = model.folder / "fold_0" / "validation" / "case_0_00.png"
    other.write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read") as error:
        learn(model, tmp_path)
    assert "case_0_00.png" in str(error.value)


def test_a_fold_that_repeats_cases_is_left_out(model, tmp_path):
    add_folds(model, with_specks)
    official = model.folder / "fold_5" / "validation"
    official.mkdir(parents=True)
    for file in (model.folder / "fold_0" / "validation").iterdir():
        (official / file.name).write_bytes(file.read_bytes())
    assert list(learn(model, tmp_path)["folds"]) == ["0", "1"]
    with pytest.raises(UserError, match="held out by another fold too"):
        learn(model, tmp_path, folds=[0, 1, 5])


def test_a_fold_that_is_not_validated_is_named(model, tmp_path):
    with pytest.raises(NotFoundError, match="fold 3 is not validated; validated here: 0, 1"):
        learn(add_folds(model, with_specks), tmp_path, folds=[0, 3])


def test_a_network_trained_on_all_cases_holds_out_none(model, tmp_path):
    with pytest.raises(UserError, match="holds out none"):
        learn(add_folds(model, with_specks), tmp_path, folds=["all"])


def test_the_test_is_scipys():
    differences = np.random.default_rng(0).normal(0.3, 1, 20)
    expected = stats.wilcoxon(differences, alternative="greater", method="exact").pvalue
    assert signed_rank_test(differences) == pytest.approx(expected)


def test_the_test_counts_equal_differences_as_all_signs_do():
    differences = np.array([1.0, 1.0, 1.0, -2.0, 2.0, 3.0])
    ranks = stats.rankdata(np.abs(differences))
    signs = (np.arange(64)[:, None] >> np.arange(6)) & 1
    expected = (signs @ ranks >= ranks[differences > 0].sum()).mean()
    assert signed_rank_test(differences) == pytest.approx(expected)


def test_no_difference_is_no_gain():
    assert signed_rank_test(np.zeros(0)) == 1.0
