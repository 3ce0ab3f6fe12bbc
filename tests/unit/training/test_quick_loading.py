"""Our loader of images makes the batches that nnU-Net's makes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetNumpy
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.data.intensities import Affine
from nnmedseg.data.store import write_case
from nnmedseg.nnunet.dataset import MedSegDataset
from nnmedseg.training.augmentation.quick import quickened
from nnmedseg.training.augmentation.quick_spatial import QuickSpatial
from nnmedseg.training.sample_loader import SampleLoader

PATCH = (40, 48)
INITIAL = (62, 70)
ALMOST = 2e-3
"""Of intensities around 1; nnU-Net computes coordinates in float32, to about 1e-5 pixels."""

LABELS = {"background": 0, "a": 1, "b": 2}


def _seed(seed):
    np.random.seed(seed)  # noqa: NPY002 - what the transforms draw from
    torch.manual_seed(seed)


def _photograph(generator, shape):
    """An image as smooth as photographs are, of 8 bits, with three labels."""
    image = torch.from_numpy(generator.random((1, 3, 6, 6), dtype=np.float32))
    image = torch.nn.functional.interpolate(image, shape, mode="bicubic")[0]
    labels = np.zeros(shape, np.int16)
    labels[10:30, 5:25] = 1
    labels[20:45, 20:40] = 2
    return (255 * image.clamp(0, 1)).to(torch.uint8).numpy(), labels


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Photographs smaller and larger than a patch, in our store."""
    folder = tmp_path_factory.mktemp("cases")
    generator = np.random.default_rng(0)
    for number, shape in enumerate([(50, 90), (72, 60), (36, 44), (130, 110)]):
        colours, labels = _photograph(generator, shape)
        flat = {label: np.flatnonzero(labels == label) for label in (1, 2)}
        write_case(
            folder / f"case{number}.uint8",
            colours,
            labels,
            normalisation=Affine(np.full(3, 1 / 60), np.full(3, -1.5)),
            properties={},
            locations=flat,
        )
    return folder


def _transforms(scales=None, regions=None, rotation=np.pi):
    return nnUNetTrainer.get_training_transforms(
        PATCH, (-rotation, rotation), scales, (0, 1), False,
        use_mask_for_norm=[False] * 3, regions=regions,
    )  # fmt: skip


def _loader(kind, folder, transforms, *, initial=INITIAL, batch_size=4, dataset=MedSegDataset):
    labels = LabelManager(LABELS, regions_class_order=None)
    return kind(
        dataset(str(folder)), batch_size, initial, PATCH, labels, 0.33, transforms=transforms
    )


def _batches(kind, folder, count=8, seed=0, **kwargs):
    transforms = kwargs.pop("transforms", None) or _transforms()
    loader = _loader(kind, folder, transforms, **kwargs)
    _seed(seed)
    return [next(loader) for _ in range(count)]


def _assert_same(theirs, ours):
    wrong = pixels = 0
    for their, our in zip(theirs, ours, strict=True):
        assert list(their["keys"]) == list(our["keys"])
        assert our["data"].dtype == their["data"].dtype
        assert (our["data"] - their["data"]).abs().max() < ALMOST
        targets = [
            each if isinstance(each, list) else [each] for each in (their["target"], our["target"])
        ]
        for a, b in zip(*targets, strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            wrong += int((a != b).sum())
            pixels += a.numel()
    assert wrong <= 1e-5 * pixels


def test_batches_are_nnunets(cases):
    _assert_same(_batches(nnUNetDataLoader, cases), _batches(SampleLoader, cases))


def test_the_generators_are_left_as_nnunet_leaves_them(cases):
    after = []
    for kind in (nnUNetDataLoader, SampleLoader):
        _batches(kind, cases, 3)
        after.append((np.random.random(), float(torch.rand(1))))  # noqa: NPY002
    assert after[0] == after[1]


def test_batches_with_several_targets_are_nnunets(cases):
    given = {"transforms": _transforms(scales=[[1, 1], [0.5, 0.5]])}
    _assert_same(
        _batches(nnUNetDataLoader, cases, 3, **given), _batches(SampleLoader, cases, 3, **given)
    )


def test_batches_with_regions_are_nnunets(cases):
    given = {"transforms": _transforms(regions=[(1, 2), 2])}
    _assert_same(
        _batches(nnUNetDataLoader, cases, 3, **given), _batches(SampleLoader, cases, 3, **given)
    )


def test_validation_batches_are_nnunets_to_the_bit(cases):
    given = {"transforms": nnUNetTrainer.get_validation_transforms(None), "initial": PATCH}
    theirs, ours = (_batches(kind, cases, 4, **given) for kind in (nnUNetDataLoader, SampleLoader))
    for their, our in zip(theirs, ours, strict=True):
        assert torch.equal(their["data"], our["data"])
        assert torch.equal(their["target"], our["target"])


def test_batches_of_nnunets_own_store_are_nnunets(tmp_path):
    generator = np.random.default_rng(1)
    for number in range(3):
        colours, labels = _photograph(generator, (60, 80))
        locations = {
            label: np.insert(np.argwhere(labels == label), 0, [[0], [0]], axis=1)
            for label in (1, 2)
        }
        nnUNetDatasetNumpy.save_case(
            colours[:, None] / np.float32(60),
            labels[None, None],
            {"class_locations": locations},
            str(tmp_path / f"case{number}"),
        )
    given = {"dataset": nnUNetDatasetNumpy}
    _assert_same(
        _batches(nnUNetDataLoader, tmp_path, 4, **given),
        _batches(SampleLoader, tmp_path, 4, **given),
    )


def test_statistics_over_many_samples_are_nnunets(cases):
    """With other random numbers: what is drawn is distributed alike, not only repeated."""
    means = []
    for kind, seed in ((nnUNetDataLoader, 10), (SampleLoader, 20)):
        batches = _batches(kind, cases, 60, seed=seed, batch_size=4)
        images = torch.cat([batch["data"] for batch in batches])
        targets = torch.cat([batch["target"] for batch in batches])
        means.append(
            torch.stack(
                [
                    images.mean(dim=(1, 2, 3)),
                    images.std(dim=(1, 2, 3)),
                    (targets > 0).float().mean(dim=(1, 2, 3)),
                ]
            )
        )
    theirs, ours = means
    error = (theirs.var(dim=1) / theirs.shape[1] + ours.var(dim=1) / ours.shape[1]).sqrt()
    assert ((theirs.mean(dim=1) - ours.mean(dim=1)).abs() < 4 * error).all()


def test_a_loader_can_go_to_another_process(cases):
    loader = _loader(SampleLoader, cases, _transforms())
    results = []
    for each in (loader, pickle.loads(pickle.dumps(loader))):  # noqa: S301 - our own
        _seed(5)
        results.append(next(each)["data"])
    assert torch.equal(*results)


TRANSFORMS = {
    "blur": GaussianBlurTransform((0.5, 1.0), False, False, 0.7, benchmark=True),
    "blur of all channels alike": GaussianBlurTransform((0.5, 1.5), True, True, 0.7),
    "gamma": GammaTransform((0.7, 1.5), 0.5, False, 1, 1),
    "gamma, statistics not kept": GammaTransform((0.7, 1.5), 0.5, False, 1, 0),
    "mirroring": MirrorTransform((0, 1)),
    "removal": RemoveLabelTransform(-1, 0),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_quick_transform_is_nnunets(name):
    quick = quickened(RandomTransform(TRANSFORMS[name], 0.9))
    assert type(quick.transform) is not type(TRANSFORMS[name])
    generator = np.random.default_rng(2)
    for seed in range(8):
        image = torch.from_numpy(generator.normal(size=(3, 33, 46)).astype(np.float32))
        labels = torch.from_numpy(generator.integers(-1, 3, (1, 33, 46)).astype(np.int16))
        results = []
        for each in (RandomTransform(TRANSFORMS[name], 0.9), quick):
            _seed(seed)
            results.append(each(image=image.clone(), segmentation=labels.clone()))
        assert torch.allclose(results[0]["image"], results[1]["image"], atol=1e-5)
        assert torch.equal(results[0]["segmentation"], results[1]["segmentation"])


def test_gamma_of_an_even_channel_leaves_it():
    image = torch.full((1, 8, 8), 3.0)
    changed = quickened(GammaTransform((0.7, 1.5), 0, False, 1, 1))(image=image.clone())["image"]
    assert torch.allclose(changed, image)


@pytest.mark.parametrize(
    "settings",
    [{"p_elastic_deform": 0.5}, {"padding_mode_image": "border"}, {"seg_tiebreak": "lowest"}],
)
def test_what_nnunets_trainers_do_not_ask_for_is_left_to_nnunet(settings):
    given = {"border_mode_seg": "constant", "padding_value_seg": -1, **settings}
    assert QuickSpatial.of(SpatialTransform(PATCH, 0, False, **given)) is None
