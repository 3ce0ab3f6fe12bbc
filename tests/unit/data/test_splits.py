"""Splits of the training cases."""

from __future__ import annotations

import json

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnmedseg.data.splits import cross_validation, split_hash, with_official_split
from nnmedseg.errors import DataError

IDS = [f"ISIC_{number:07d}" for number in range(0, 230, 7)]


@pytest.mark.parametrize("count", [5, 6, 13, len(IDS)])
def test_folds_are_those_that_nnunet_draws(count):
    expected = generate_crossval_split(sorted(IDS[:count]), seed=12345, n_splits=5)
    assert cross_validation(IDS[:count]) == json.loads(json.dumps(expected))


def test_the_order_of_the_cases_does_not_matter():
    assert cross_validation(IDS[::-1]) == cross_validation(IDS)


def test_every_case_is_validated_once():
    validated = [case for fold in cross_validation(IDS) for case in fold["val"]]
    assert sorted(validated) == IDS


def test_groups_are_not_divided():
    groups = {case: str(number % 7) for number, case in enumerate(IDS)}
    for fold in cross_validation(IDS, groups):
        assert sorted(fold["train"] + fold["val"]) == IDS
        assert not {groups[case] for case in fold["train"]} & {groups[case] for case in fold["val"]}


def test_groups_of_one_case_change_nothing():
    groups = {case: case[::-1] for case in IDS}
    assert cross_validation(IDS, groups) == cross_validation(IDS)


def test_a_group_and_a_case_may_have_the_same_name():
    groups = {IDS[1]: IDS[0], IDS[2]: IDS[0]}
    folds = cross_validation(IDS[:6], groups)
    assert [IDS[0]] in [fold["val"] for fold in folds]


def test_fewer_than_five_cases_are_left_out_one_by_one():
    folds = cross_validation(IDS[:3])
    assert sorted(fold["val"] for fold in folds) == [[case] for case in IDS[:3]]


@pytest.mark.parametrize("count", [0, 1])
def test_what_cannot_be_split_is_refused(count):
    with pytest.raises(DataError, match="cannot be split"):
        cross_validation(IDS[:count])


def test_one_group_cannot_be_split():
    with pytest.raises(DataError, match="1 group"):
        cross_validation(IDS, dict.fromkeys(IDS, "patient"))


def test_the_official_parts_are_fold_5():
    splits = with_official_split(cross_validation(IDS), IDS, ["b", "a"])
    assert len(splits) == 6
    assert splits[5] == {"train": IDS, "val": ["a", "b"]}


def test_the_official_parts_get_no_other_number():
    with pytest.raises(ValueError, match="fold 5"):
        with_official_split(cross_validation(IDS[:3]), IDS[:3], ["a"])


def test_hash_tells_splits_apart():
    splits = cross_validation(IDS)
    assert split_hash(splits) == split_hash(json.loads(json.dumps(splits)))
    assert split_hash(splits) != split_hash(splits[::-1])
