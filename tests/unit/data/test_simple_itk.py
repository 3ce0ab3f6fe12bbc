"""Files of SimpleITK, which only one thread may use at a time."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK

from nnmedseg.data import simple_itk


@pytest.fixture
def files(tmp_path):
    """Twelve small volumes, each with a grid of its own."""
    paths = [tmp_path / f"{number}.nii.gz" for number in range(12)]
    for number, path in enumerate(paths):
        image = SimpleITK.GetImageFromArray(np.full((4, 5, 6), number, np.uint8))
        image.SetSpacing((1.0, 2.0, 1.0 + number))
        simple_itk.write_image(image, path)
    return paths


def test_a_header_says_what_the_file_holds(files):
    header = simple_itk.read_header(files[3])
    assert header.size == (6, 5, 4)
    assert header.spacing == (1.0, 2.0, 4.0)
    assert header.origin == (0.0, 0.0, 0.0)
    assert header.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert header.components == 1
    assert header.pixel_type == SimpleITK.sitkUInt8
    assert header.metadata["pixdim[3]"] == "4"


def test_values_come_with_their_header(files):
    values, header = simple_itk.read_values(files[3])
    assert values.shape == (4, 5, 6)
    assert (values == 3).all()
    assert header == simple_itk.read_header(files[3])


def test_what_the_check_refuses_is_not_read(files):
    def refuse(header):
        raise ValueError(header.size)

    with pytest.raises(ValueError, match="6, 5, 4"):
        simple_itk.read_values(files[0], check=refuse)


def test_threads_read_many_files_as_one_thread_does(files):
    wanted = [simple_itk.read_header(path) for path in files] * 50
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(simple_itk.read_header, files * 50)) == wanted


@pytest.mark.parametrize("read", [simple_itk.read_header, simple_itk.read_values])
def test_a_reader_waits_until_it_is_alone(files, read):
    done = threading.Event()

    def work():
        read(files[0])
        done.set()

    with simple_itk.alone():
        thread = threading.Thread(target=work)
        thread.start()
        assert not done.wait(0.3)
    assert done.wait(10)
    thread.join()


def test_a_writer_waits_until_it_is_alone(tmp_path):
    image = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6), np.uint8))
    path = tmp_path / "image.nii.gz"
    with simple_itk.alone():
        thread = threading.Thread(target=simple_itk.write_image, args=(image, path))
        thread.start()
        time.sleep(0.3)
        assert not path.exists()
    thread.join(10)
    assert path.exists()


def test_warnings_are_shown_again_after_a_quiet_reading(files):
    shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(True)
    try:
        with pytest.raises(RuntimeError):
            simple_itk.read_header(files[0].with_name("none.nii.gz"), warn=False)
        assert SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_while_a_thread_reads_can_read(files):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            simple_itk.read_values(files[0])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if not child:
                acquired = simple_itk._LOCK.acquire(timeout=10)
                os._exit(0 if acquired else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
