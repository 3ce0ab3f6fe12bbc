"""nnU-Net's readers and writers in threads."""

import threading

import numpy as np
import pytest
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnmedseg.data.simple_itk import alone
from nnmedseg.nnunet.one_at_a_time import OneAtATime

GRID = {
    "spacing": (1.0, 2.0, 3.0),
    "origin": (4.0, 5.0, 6.0),
    "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1),
}


@pytest.fixture
def file(tmp_path):
    """A label map that nnU-Net has written."""
    labels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    path = str(tmp_path / "labels.nii.gz")
    OneAtATime(SimpleITKIO()).write_seg(labels, path, {"sitk_stuff": GRID})
    return path


def test_it_reads_what_nnunets_reader_reads(file):
    for read in ("read_seg", "read_images"):
        given = file if read == "read_seg" else [file]
        values, properties = getattr(OneAtATime(SimpleITKIO()), read)(given)
        expected, stored = getattr(SimpleITKIO(), read)(given)
        assert np.array_equal(values, expected)
        assert properties == stored


@pytest.mark.parametrize("call", ["read_images", "read_seg", "write_seg"])
def test_it_waits_until_it_is_alone(call, file, tmp_path):
    files = OneAtATime(SimpleITKIO())
    arguments = {
        "read_images": ([file],),
        "read_seg": (file,),
        "write_seg": (
            np.zeros((3, 4, 5), np.uint8),
            str(tmp_path / "new.nii.gz"),
            {"sitk_stuff": GRID},
        ),
    }
    done = threading.Event()

    def work():
        getattr(files, call)(*arguments[call])
        done.set()

    with alone():
        thread = threading.Thread(target=work)
        thread.start()
        assert not done.wait(0.3)
    assert done.wait(10)
    thread.join()
