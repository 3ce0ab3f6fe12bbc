"""Progress without a terminal."""

import logging

from nnmedseg.progress import track


def test_all_items_come_through_in_order():
    assert list(track(iter("abc"), "Working", 3)) == ["a", "b", "c"]


def test_the_end_is_logged_with_count_and_unit(caplog):
    with caplog.at_level(logging.INFO):
        list(track(range(2), "Working", 2, unit="files"))
    assert "Working: 2 files in" in caplog.text
