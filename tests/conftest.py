"""What every test leaves as it was."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _no_handlers_left_behind():
    """Take away what commands have set up to print to the test's own, captured, output."""
    yield
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if type(each) is not logging.StreamHandler]
