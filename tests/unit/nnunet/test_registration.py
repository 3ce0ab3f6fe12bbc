"""nnU-Net finds our preprocessor by its name and our dataset class by its files."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import (
    file_ending_dataset_mapping,
    infer_dataset_class,
)

from nnmedseg.data.intensities import Affine
from nnmedseg.nnunet.dataset import MedSegDataset
from nnmedseg.nnunet.registration import register

FRESH_PROCESS = """
import pydoc, sys
network = pydoc.locate("nnmedseg.nnunet.architectures.{network}")
assert network.__name__ == "{network}", network

import nnunetv2
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

folder = nnunetv2.__path__[0] + "/preprocessing"
found = recursive_find_python_class(folder, "MedSegPreprocessor", "nnunetv2.preprocessing")
assert found.__module__ == "nnmedseg.nnunet.preprocessor", found
assert infer_dataset_class(sys.argv[1]).__name__ == "MedSegDataset"
"""


@pytest.fixture
def stored(tmp_path):
    """A folder with one case."""
    colours = np.random.default_rng(0).integers(0, 256, (3, 1, 30, 40), dtype=np.uint8)
    labels = np.zeros((1, 1, 30, 40), np.int8)
    labels[..., 5:9, 6:20] = 1
    properties = {
        "spacing": (999, 1, 1),
        "class_locations": {1: np.argwhere(labels == 1), 2: []},
        "normalisation": Affine(np.full(3, 0.5), np.full(3, -7.0)),
    }
    MedSegDataset.save_case(colours, labels, properties, str(tmp_path / "case"))
    return tmp_path, colours, labels, properties


@pytest.mark.slow
@pytest.mark.parametrize("network", ["PlannedNetwork", "PlainConvUNet"])
def test_whoever_builds_a_planned_network_finds_preprocessor_and_store(stored, network):
    script = FRESH_PROCESS.format(network=network)
    subprocess.run([sys.executable, "-c", script, str(stored[0])], check=True)


def test_registering_twice_is_registering_once():
    register()
    before = dict(file_ending_dataset_mapping)
    register()
    assert file_ending_dataset_mapping == before


def test_a_saved_case_is_loaded(stored):
    folder, colours, labels, properties = stored
    register()
    dataset = infer_dataset_class(str(folder))(str(folder))
    assert dataset.identifiers == ["case"]
    data, seg, previous, loaded = dataset["case"]
    assert previous is None
    np.testing.assert_allclose(data[:], colours * np.float32(0.5) - 7)
    assert np.array_equal(seg[:], labels)
    assert np.array_equal(loaded["class_locations"][1], properties["class_locations"][1])
    assert len(loaded["class_locations"][2]) == 0
    assert loaded["spacing"] == [999, 1, 1]


def test_unfinished_files_are_no_cases(stored):
    (stored[0] / ".writing-1-other.uint8").touch()
    assert MedSegDataset.get_identifiers(str(stored[0])) == ["case"]


def test_normalised_images_are_refused(stored):
    _, colours, labels, properties = stored
    with pytest.raises(TypeError, match="8 bits"):
        MedSegDataset.save_case(colours.astype(np.float32), labels, properties, "case")


def test_a_dataset_travels_to_a_process_that_was_spawned(stored):
    script = (
        "import multiprocessing, sys\n"
        "from nnmedseg.nnunet.dataset import MedSegDataset\n"
        "def main():\n"
        "    dataset = MedSegDataset(sys.argv[1])\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        data, seg, _, properties = pool.apply(dataset.load_case, ('case',))\n"
        "    assert data.shape == (3, 1, 30, 40) and seg.sum() == 4 * 14\n"
        "    assert properties['class_locations'][1].shape == (4 * 14, 4)\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    file = stored[0].parent / "spawning.py"
    file.write_text(script)
    subprocess.run([sys.executable, file, str(stored[0])], check=True)
