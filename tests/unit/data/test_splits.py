"""Splits of the training cases."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys

import pytest

from nnmedseg.data.splits import (
    SPLITS_FILE,
    cross_validation,
    hash_of_split_in,
    joined_with,
    split_hash,
    with_official_split,
)
from nnmedseg.errors import DataError

IDS = [f"ISIC_{number:07d}" for number in range(0, 230, 7)]
SIZES = {case: (3 + 5 * number) % 33 / 33 for number, case in enumerate(IDS)}
PATIENTS = {case: str(number % 11) for number, case in enumerate(IDS)}


def validated(splits):
    return [set(fold["val"]) for fold in splits]


def many(groups, cases_each, spread):
    """Cases of groups whose foreground is alike, in each as many as its number gives."""
    generator = random.Random(3)
    sizes, groups_of = {}, {}
    for group in range(groups):
        typical = generator.betavariate(2, 5)
        for number in range(1 + group % (2 * cases_each - 1)):
            case = f"{group:03d}_{number:03d}"
            sizes[case] = (1 - spread) * typical + spread * generator.betavariate(2, 5)
            groups_of[case] = str(group)
    return sizes, groups_of


def largest_difference(sample, population):
    """The Kolmogorov-Smirnov distance of two lists of numbers."""
    return max(
        abs(
            sum(value <= limit for value in sample) / len(sample)
            - sum(value <= limit for value in population) / len(population)
        )
        for limit in population
    )


def test_every_case_is_validated_once_and_trained_on_otherwise():
    splits = cross_validation(IDS, PATIENTS, SIZES)
    assert sorted(case for fold in splits for case in fold["val"]) == IDS
    for fold in splits:
        assert sorted(fold["train"] + fold["val"]) == IDS


def test_what_is_drawn_stays_the_same():
    splits = cross_validation(IDS[:10], sizes=SIZES)
    assert [fold["val"] for fold in splits] == [
        ["ISIC_0000000", "ISIC_0000063"],
        ["ISIC_0000028", "ISIC_0000042"],
        ["ISIC_0000007", "ISIC_0000021"],
        ["ISIC_0000014", "ISIC_0000049"],
        ["ISIC_0000035", "ISIC_0000056"],
    ]


@pytest.mark.parametrize("groups", [{}, PATIENTS], ids=["cases", "patients"])
@pytest.mark.parametrize("sizes", [{}, SIZES], ids=["without foreground", "with foreground"])
def test_the_order_of_the_cases_does_not_matter(groups, sizes):
    pairs = [IDS[:2], IDS[5:8]]
    assert cross_validation(IDS, groups, sizes, pairs) == cross_validation(
        IDS[::-1],
        dict(reversed(groups.items())),
        dict(reversed(sizes.items())),
        [names[::-1] for names in pairs[::-1]],
    )


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_hash_randomisation_does_not_matter(hash_seed):
    program = (
        "import json, sys; from nnmedseg.data.splits import cross_validation;"
        "print(json.dumps(cross_validation(*json.load(sys.stdin))))"
    )
    arguments = [IDS, PATIENTS, SIZES, [IDS[:2], IDS[5:8]]]
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(arguments), text=True,
        capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    assert json.loads(done.stdout) == cross_validation(*arguments)


@pytest.mark.parametrize("count", [5, 6, 13, len(IDS)])
@pytest.mark.parametrize("sizes", [None, SIZES, dict.fromkeys(IDS[::2], 0.3)])
def test_folds_of_single_cases_differ_by_at_most_one(count, sizes):
    lengths = [len(fold["val"]) for fold in cross_validation(IDS[:count], sizes=sizes)]
    assert max(lengths) - min(lengths) <= 1


def test_of_five_neighbours_in_foreground_each_fold_gets_one():
    folds = validated(cross_validation(IDS[:30], sizes=SIZES))
    ordered = sorted(IDS[:30], key=SIZES.__getitem__)
    for start in range(0, 30, 5):
        assert [len(fold & set(ordered[start : start + 5])) for fold in folds] == [1] * 5


def test_single_cases_are_dealt_out_at_random():
    folds = validated(cross_validation(IDS[:30], sizes=SIZES))
    ordered = sorted(IDS[:30], key=SIZES.__getitem__)
    assert (
        len({tuple(case in folds[0] for case in ordered[k : k + 5]) for k in range(0, 30, 5)}) > 1
    )


def test_each_fold_has_the_foreground_of_the_whole():
    sizes, _ = many(groups=60, cases_each=5, spread=0.5)
    for fold in cross_validation(list(sizes), sizes=sizes):
        found = [sizes[case] for case in fold["val"]]
        assert largest_difference(found, list(sizes.values())) < 0.05


def test_many_cases_without_foreground_are_spread_evenly():
    sizes = dict.fromkeys(IDS[:10], 0.5)
    folds = validated(cross_validation(IDS, sizes=sizes))
    assert [len(fold & set(sizes)) for fold in folds] == [2] * 5


def test_groups_are_not_divided():
    for fold in cross_validation(IDS, PATIENTS, SIZES):
        assert not {PATIENTS[c] for c in fold["train"]} & {PATIENTS[c] for c in fold["val"]}


def test_folds_of_groups_have_about_as_many_cases():
    sizes, groups = many(groups=60, cases_each=8, spread=0.5)
    lengths = [len(fold["val"]) for fold in cross_validation(list(sizes), groups, sizes)]
    assert max(lengths) - min(lengths) < 0.05 * statistics.mean(lengths)


def test_folds_of_groups_have_about_the_same_foreground():
    sizes, groups = many(groups=60, cases_each=8, spread=0.5)
    for fold in cross_validation(list(sizes), groups, sizes):
        found = [sizes[case] for case in fold["val"]]
        assert largest_difference(found, list(sizes.values())) < 0.12


def test_pairs_are_dealt_out_like_single_cases():
    children = {case: case[:-1] for case in (f"{n:02d}{eye}" for n in range(1, 15) for eye in "LR")}
    lengths = [len(fold["val"]) for fold in cross_validation(list(children), children)]
    assert sorted(lengths) == [4, 6, 6, 6, 6]


def test_groups_of_one_case_change_nothing():
    groups = {case: case[::-1] for case in IDS}
    assert cross_validation(IDS, groups, SIZES) == cross_validation(IDS, sizes=SIZES)


def test_a_group_and_a_case_may_have_the_same_name():
    groups = {IDS[1]: IDS[0], IDS[2]: IDS[0]}
    folds = cross_validation(IDS[:6], groups)
    assert [IDS[0]] in [fold["val"] for fold in folds]


def test_duplicates_are_in_one_fold():
    folds = validated(cross_validation(IDS, sizes=SIZES, together=[[IDS[0], IDS[9], IDS[30]]]))
    assert [len(fold & {IDS[0], IDS[9], IDS[30]}) for fold in folds].count(3) == 1


def test_duplicates_unite_their_groups():
    groups = {IDS[0]: "a", IDS[1]: "a", IDS[2]: "b", IDS[3]: "b"}
    folds = validated(cross_validation(IDS, groups, together=[[IDS[1], IDS[2]]]))
    assert any(set(IDS[:4]) <= fold for fold in folds)


def test_copies_of_one_image_elsewhere_are_copies_of_each_other():
    together = [[IDS[0], "a test image"], ["a test image", IDS[20]]]
    folds = validated(cross_validation(IDS, together=together))
    assert any({IDS[0], IDS[20]} <= fold for fold in folds)
    assert "a test image" not in set.union(*folds)


def test_fewer_than_five_cases_are_left_out_one_by_one():
    folds = cross_validation(IDS[:3])
    assert sorted(fold["val"] for fold in folds) == [[case] for case in IDS[:3]]


def test_fewer_than_five_groups_are_left_out_one_by_one():
    groups = {case: str(number % 3) for number, case in enumerate(IDS)}
    left_out = [
        {groups[case] for case in fold} for fold in validated(cross_validation(IDS, groups))
    ]
    assert sorted(left_out, key=min) == [{"0"}, {"1"}, {"2"}]


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


def test_training_copies_of_official_validation_images_are_not_in_fold_5():
    splits = with_official_split(
        cross_validation(IDS), IDS, ["a", "b"], [[IDS[4], "b"], [IDS[4], IDS[6]], IDS[:2]]
    )
    left_out = set(IDS) - set(splits[5]["train"])
    assert left_out == {IDS[4], IDS[6]}
    assert splits[5]["val"] == ["a", "b"]


def test_the_official_parts_get_no_other_number():
    with pytest.raises(ValueError, match="fold 5"):
        with_official_split(cross_validation(IDS[:3]), IDS[:3], ["a"])


def test_an_official_split_without_training_cases_is_refused():
    copies = [[case, "a"] for case in IDS]
    with pytest.raises(DataError, match="every training image"):
        with_official_split(cross_validation(IDS), IDS, ["a"], copies)


def test_joining_goes_on_step_by_step():
    chain = [["d", "e"], ["b", "c"], ["a", "b"], ["c", "d"], ["x", "y"]]
    assert joined_with(["a"], chain) == {"a", "b", "c", "d", "e"}


def test_hash_tells_splits_apart():
    splits = cross_validation(IDS)
    assert split_hash(splits) == split_hash(json.loads(json.dumps(splits)))
    assert split_hash(splits) != split_hash(splits[::-1])


def test_the_order_of_the_parts_does_not_change_the_hash():
    splits = cross_validation(IDS)
    assert split_hash([dict(reversed(fold.items())) for fold in splits]) == split_hash(splits)


def test_the_hash_of_a_file_is_that_of_what_it_says(tmp_path):
    splits = cross_validation(IDS)
    (tmp_path / SPLITS_FILE).write_text(json.dumps(splits, indent=4))
    assert hash_of_split_in(tmp_path) == split_hash(splits)


def test_a_folder_without_a_split_has_no_hash(tmp_path):
    assert hash_of_split_in(tmp_path) is None
