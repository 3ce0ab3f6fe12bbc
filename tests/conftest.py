"""What every test leaves as it was."""

import logging
import os
import subprocess
import sys

import pytest


@pytest.fixture(autouse=True)
def _no_handlers_left_behind():
    """Take away what commands have set up to print to the test's own, captured, output."""
    yield
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if type(each) is not logging.StreamHandler]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, where the test may mount one."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
