"""The papers' own divisions of their data sets."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from nnmedseg.dataset_conversion.base import Case
from nnmedseg.dataset_conversion.protocols import (
    PROTOCOLS,
    Protocol,
    apply_protocol,
    find_protocol,
    list_protocols,
    notes_on_groups,
)
from nnmedseg.dataset_conversion.registry import list_converters
from nnmedseg.errors import DataError, NotFoundError

ALL = [
    pytest.param(dataset, protocol, id=f"{dataset}-{protocol.name}")
    for dataset, protocols in PROTOCOLS.items()
    for protocol in protocols
]

RELEASES = [
    ("ISIC2018", "rosper", (2594, 100, 1000), (1815, 259, 520)),
    ("ISIC2018", "asc", (2594, 100, 1000), (1815, 259, 520)),
    ("ISIC2018", "heteromedseg", (2594, 100, 1000), (1868, 467, 259)),
    ("ISIC2018", "five-fold", (2594, 100, 1000), (2594, 0, 0)),
    ("ISIC2018", "promise", (2594, 100, 1000), (2594, 100, 1000)),
    ("ISIC2017", "rosper", (2000, 150, 600), (2000, 150, 600)),
    ("ISIC2017", "asc", (2000, 150, 600), (2000, 150, 600)),
    ("ISIC2017", "condseg", (2000, 150, 600), (2000, 150, 600)),
    ("ISIC2016", "condseg", (900, 0, 379), (900, 0, 379)),
    ("PH2", "rosper", (200, 0, 0), (160, 20, 20)),
    ("PH2", "asc", (200, 0, 0), (160, 20, 20)),
    ("Kvasir-SEG", "rosper", (880, 120, 0), (880, 0, 120)),
    ("Kvasir-SEG", "asc", (1000, 0, 0), (880, 0, 120)),
    ("Kvasir-SEG", "condseg", (880, 120, 0), (880, 0, 120)),
    ("Kvasir-SEG", "condseg", (1000, 0, 0), (880, 0, 120)),
    ("Kvasir-Sessile", "condseg", (196, 0, 0), (156, 20, 20)),
    ("Kvasir-Sessile", "condseg", (156, 20, 20), (156, 20, 20)),
    ("Synapse", "heteromedseg", (18, 0, 12), (18, 0, 12)),
    ("CHASE_DB1", "first-20", (28, 0, 0), (20, 0, 8)),
    ("CVC-ClinicDB", "heteromedseg", (612, 0, 0), (489, 62, 61)),
    ("GlaS", "condseg", (85, 0, 80), (85, 0, 80)),
    ("GlaS", "by-patient", (85, 0, 80), (165, 0, 0)),
    ("RectalCancer", "heteromedseg", (774, 0, 86), (688, 86, 86)),
    ("RectalCancer", "heteromedseg", (860, 0, 0), (688, 86, 86)),
    ("RectalCancer", "by-patient", (774, 0, 86), (860, 0, 0)),
    ("PolypBenchmark", "promise", (1450, 0, 798), (1450, 0, 798)),
    ("PolypBenchmark", "promise", (1450, 798, 0), (1450, 0, 798)),
]
"""Sizes of the release's parts, and of the protocol's."""


def cases(train, validation=0, test=0, name="case_{:04d}"):
    parts = ["train"] * train + ["validation"] * validation + ["test"] * test
    return [Case(name.format(number), (), part=part) for number, part in enumerate(parts)]


def applied(dataset, name, given):
    return apply_protocol(given, find_protocol(dataset, name))


def counts(used):
    found = Counter(case.part for case in used)
    return tuple(found[part] for part in ("train", "validation", "test"))


def busi(normal=0):
    return [
        Case(f"{kind}_{number}", ())
        for kind, count in (("benign", 437), ("malignant", 210), ("normal", normal))
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize(("dataset", "name", "release", "expected"), RELEASES)
def test_the_whole_release_is_divided_as_the_paper_has_it(dataset, name, release, expected):
    used, left_out, _ = applied(dataset, name, cases(*release))
    assert counts(used) == expected
    assert len(used) + len(left_out) == sum(release)


@pytest.mark.parametrize(("dataset", "protocol"), ALL)
def test_every_protocol_says_its_counts(dataset, protocol):
    drawn = [str(size) for size in protocol.sizes or () if size]
    assert all(count in protocol.what for count in drawn)


@pytest.mark.parametrize(("dataset", "protocol"), ALL)
def test_every_draw_is_said_to_be_another_than_the_papers(dataset, protocol):
    is_drawn = protocol.sizes is not None and protocol.shuffled and not protocol.keeps
    assert any("fixed seed" in warning for warning in protocol.warnings) or not is_drawn


@pytest.mark.parametrize(("dataset", "name", "release", "expected"), RELEASES)
def test_protocols_without_validation_images_say_what_to_choose_by(
    dataset, name, release, expected
):
    _, validation, test = expected
    says_so = any("choose by the folds" in text for text in find_protocol(dataset, name).warnings)
    assert says_so == (test > 0 and validation == 0)


@pytest.mark.parametrize(("dataset", "protocol"), ALL)
def test_names_are_found_and_unique(dataset, protocol):
    assert find_protocol(dataset, protocol.name.upper()) is protocol
    assert [other.name for other in list_protocols(dataset)].count(protocol.name) == 1


def test_protocols_are_of_data_sets_that_can_be_converted():
    assert set(PROTOCOLS) <= {converter.name for converter in list_converters()}


def test_the_draw_does_not_depend_on_the_order_of_the_cases():
    given = cases(2594)
    parts = {case.id: case.part for case in applied("ISIC2018", "rosper", given)[0]}
    again = {case.id: case.part for case in applied("ISIC2018", "rosper", given[::-1])[0]}
    assert again == parts


def test_what_is_drawn_stays_the_same():
    used, _, _ = apply_protocol(cases(10), Protocol("p", "P", "", sizes=(6, 2, 2)))
    assert [case.id[-1] for case in used if case.part == "validation"] == ["0", "9"]
    assert [case.id[-1] for case in used if case.part == "test"] == ["2", "6"]


def test_another_seed_draws_others():
    protocol = find_protocol("PH2", "rosper")
    drawn = [
        [case.part for case in apply_protocol(cases(200), protocol, seed)[0]] for seed in (1, 2)
    ]
    assert drawn[0] != drawn[1]


def test_cases_keep_their_order_and_all_but_the_part():
    given = [replace(case, group=case.id) for case in cases(20)]
    used, _, _ = applied("PH2", "asc", given)
    assert [replace(case, part="train") for case in used] == given


def test_parts_that_the_paper_does_not_use_are_left_out_as_they_were():
    given = cases(2594, 100, 1000)
    _, left_out, _ = applied("ISIC2018", "asc", given)
    assert left_out == given[2594:]


def test_official_lists_are_taken_where_they_are():
    given = cases(880, 120)
    used, _, notes = applied("Kvasir-SEG", "condseg", given)
    assert [case.id for case in used if case.part == "test"] == [case.id for case in given[880:]]
    assert notes == []


def test_a_draw_in_the_place_of_official_lists_is_said():
    _, _, notes = applied("Kvasir-SEG", "condseg", cases(1000))
    assert notes == ["The download does not say which cases are for test: they are drawn"]


def test_published_test_slices_stay_and_validation_is_drawn_from_the_others():
    given = cases(774, 0, 86)
    used, _, _ = applied("RectalCancer", "heteromedseg", given)
    assert [case.id for case in used if case.part == "test"] == [case.id for case in given[774:]]


def test_busi_is_cut_in_the_order_of_the_names():
    used, _, _ = applied("BUSI", "rosper", busi()[::-1])
    malignant = sorted(f"malignant_{number}" for number in range(1, 211))
    assert sorted(case.id for case in used if case.part == "test") == malignant[81:]


@pytest.mark.parametrize("name", ["rosper", "asc"])
def test_busi_is_divided_without_the_normal_images(name):
    used, left_out, _ = applied("BUSI", name, busi(normal=133))
    assert counts(used) == (518, 0, 129)
    assert {case.id.split("_")[0] for case in left_out} == {"normal"}


@pytest.mark.parametrize("total", [3, 4, 13, 100, 2593, 5188])
def test_another_number_of_cases_is_divided_in_the_same_proportions(total):
    used, _, notes = applied("ISIC2018", "rosper", cases(total))
    found = counts(used)
    assert sum(found) == total
    assert min(found) >= 1
    for count, size in zip(found, (1815, 259, 520), strict=True):
        assert abs(count - total * size / 2594) < 2
    assert f"divides 2594 cases, here are {total}" in notes[0]
    assert f"{found[0]} / {found[1]} / {found[2]}" in notes[0]


def test_proportions_are_rounded_to_the_nearest():
    used, _, _ = applied("ISIC2018", "rosper", cases(13))
    assert counts(used) == (9, 1, 3)  # of 9.10, 1.30 and 2.61


def test_some_of_the_official_lists_are_taken_as_they_are():
    used, _, notes = applied("Kvasir-SEG", "condseg", cases(53, 7))
    assert counts(used) == (53, 0, 7)
    assert notes == []


def test_too_few_cases_for_the_parts_are_refused():
    with pytest.raises(DataError, match="2 cases cannot be divided into 3 parts"):
        applied("ISIC2018", "rosper", cases(2))


def test_a_missing_official_part_is_said():
    used, _, notes = applied("ISIC2018", "promise", cases(13))
    assert counts(used) == (13, 0, 0)
    assert notes == [
        "The validation part of the release is not here",
        "The test part of the release is not here",
    ]


def test_a_divided_patient_is_named():
    given = [replace(case, group="patient 7") for case in cases(200)]
    _, _, notes = applied("PH2", "rosper", given)
    assert any("patient 7" in note for note in notes)


def test_the_eyes_of_a_child_are_in_one_part():
    given = [
        Case(f"Image_{child:02d}{eye}", (), group=f"child_{child:02d}")
        for child in range(1, 15)
        for eye in "LR"
    ]
    used, _, notes = applied("CHASE_DB1", "first-20", given)
    assert notes_on_groups(used) == []
    assert {case.group for case in used if case.part == "test"} == {
        f"child_{child}" for child in range(11, 15)
    }
    assert notes == []


def test_groups_in_one_part_are_not_divided():
    given = [
        Case("a", (), part="train", group="one"),
        Case("b", (), part="train", group="one"),
        Case("c", (), part="test", group="two"),
        Case("d", (), part="train", group="two"),
        Case("e", (), part="test"),
    ]
    (note,) = notes_on_groups(given)
    assert note.endswith(": two")


def test_an_unknown_protocol_lists_those_that_there_are():
    with pytest.raises(NotFoundError) as caught:
        find_protocol("ISIC2018", "condseg")
    for protocol in PROTOCOLS["ISIC2018"]:
        assert f"{protocol.name}: {protocol.what}" in str(caught.value)


def test_a_data_set_without_protocols_says_so():
    with pytest.raises(NotFoundError, match="leave --split out"):
        find_protocol("ETIS-LaribPolypDB", "rosper")
