"""A trained model folder as a function from images to label maps."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch.utils.serialization import config

from nnmedseg.allocation import reuse_freed_memory
from nnmedseg.cores import thread_count
from nnmedseg.data.released_input import RELEASED_INPUT, prepare_as_released
from nnmedseg.data.resizing import resize_labels
from nnmedseg.errors import UserError, WeightsError
from nnmedseg.inference.cpu_layout import lay_out_for_cpu
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase
from nnmedseg.inference.inputs.loading import load_natural, load_with_reader
from nnmedseg.inference.prediction import Prediction
from nnmedseg.inference.side_by_side import side_by_side_for
from nnmedseg.inference.sliding_window import Slab, SlidingWindow, window_bytes
from nnmedseg.inference.tile_batches import TileBatches
from nnmedseg.inference.to_labels.reduction import Reduction
from nnmedseg.inference.trained_folds import choose_folds, split_of
from nnmedseg.inference.whole_images import is_fully_convolutional, whole_image_patch
from nnmedseg.networks import SegmentationNetwork
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.frozen import frozen_weights_in
from nnmedseg.networks.layers.layout import lay_out_weights
from nnmedseg.nnunet import captured_output
from nnmedseg.nnunet.photograph_preprocessing import (
    is_large,
    preprocess_photograph,
    why_not_by_tables,
)
from nnmedseg.nnunet.registration import register
from nnmedseg.training.checkpoints import compare_checksums, only_plain_values

logger = logging.getLogger(__name__)

NATURAL_READER = "NaturalImage2DIO"
LARGEST_OF_8_BITS = 255
MOST_IMAGES = 8
"""How many images may share batches, which bounds the memory."""

register()


class MedSegPredictor(nnUNetPredictor):
    """nnU-Net's predictor in one process, with weights loaded once.

    Attributes:
        model: The model folder.
        folds: Folds whose logits are averaged.
        networks: One a fold.
        whole_images: Whether images not much larger than a patch are seen at once.
        split_sha256: Hash of the split that all of these folds were trained with, or None where it
            is not known, as for imported weights, or not the same.
    """

    model: Path
    folds: list[str]
    split_sha256: str | None
    checkpoint_name: str
    whole_images: bool
    batches: TileBatches
    networks: list[torch.nn.Module]
    network: torch.nn.Module
    list_of_parameters: list[dict[str, Any]]

    @classmethod
    def from_folder(
        cls,
        model: str | Path,
        folds: Sequence[int | str] | None = None,
        *,
        checkpoint: str = "final",
        device: torch.device | None = None,
        mirroring: bool = True,
        whole_images: bool = False,
    ) -> MedSegPredictor:
        """Load a model folder ``Trainer__Plans__configuration``.

        Args:
            model: The folder that holds ``plans.json`` and the folds.
            folds: Folds to average, or ``None`` for all that are trained.
            checkpoint: ``"final"`` or ``"best"``.
            device: Where to predict (default: the CPU).
            mirroring: Average over mirrored copies, as nnU-Net does by default.
            whole_images: Give the network a whole image where it is not much larger than a patch,
                instead of tiles: faster, but norms over a whole image see other statistics than
                over the patches of the training. Volumes always go by tiles.

        Raises:
            UserError: Whole images are wanted of a network that is not fully convolutional.
            NotFoundError: The folder is no model folder, a fold has no such checkpoint, or the file
                of weights that training left frozen is missing.
            WeightsError: A checkpoint cannot be loaded.
        """
        model = Path(model)
        checkpoint_name = f"checkpoint_{checkpoint}.pth"
        chosen = choose_folds(model, folds, checkpoint_name)
        device = device or torch.device("cpu")
        if device.type == "cpu":
            torch.set_num_threads(thread_count())
            reuse_freed_memory()
        with captured_output(logger):
            predictor = cls(device=device, use_mirroring=mirroring, allow_tqdm=False)
            predictor._load(model, chosen, checkpoint_name)
        predictor.model = model
        predictor.folds = chosen
        predictor.split_sha256 = split_of(model, chosen)
        predictor.checkpoint_name = checkpoint_name
        predictor.batches = TileBatches(device, side_by_side_for(predictor.network, device))
        if whole_images and not is_fully_convolutional(predictor.network):
            raise UserError(
                "this network looks at the whole of what it is given, and was trained on patches",
                where=f"--whole-images with {model.name}",
                mend="leave --whole-images out",
            )
        predictor.whole_images = whole_images
        return predictor

    def _load(self, model: Path, folds: Sequence[str], checkpoint_name: str) -> None:
        checkpoints = [model / f"fold_{fold}" / checkpoint_name for fold in folds]
        try:
            for checkpoint in checkpoints:
                compare_checksums(checkpoint)
            with _mapped(checkpoints), only_plain_values(), frozen_weights_in(model):
                self.initialize_from_trained_model_folder(str(model), folds, checkpoint_name)
                self.networks = self._network_of_each_fold()
        except pickle.UnpicklingError as error:
            raise WeightsError(
                "the model cannot be loaded: a checkpoint is damaged, or holds more than "
                "tensors and plain values, which may be code",
                where=model,
                mend="use only models from people you trust; copy the whole folder again",
            ) from error
        except (RuntimeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise WeightsError(
                f"the model cannot be loaded: {error}",
                where=model,
                mend="train it again with --overwrite, or copy the whole folder again",
            ) from error

    def _network_of_each_fold(self) -> list[torch.nn.Module]:
        """Return a network with the parameters of each fold, fused where it is of this package.

        nnU-Net instead writes each fold's parameters into one network for every image.
        """
        first = getattr(self.network, "_orig_mod", self.network)
        if isinstance(first, PlannedNetwork):
            lay_out_weights(first, self.device)
        networks: list[torch.nn.Module] = []
        for number, parameters in enumerate(self.list_of_parameters, start=1):
            first.load_state_dict(parameters)
            one = first
            if isinstance(first, PlannedNetwork):
                one = first.fuse()
            elif number < len(self.list_of_parameters):
                one = copy.deepcopy(first)
            networks.append(one.eval().to(self.device))
            if self.device.type == "cpu":
                lay_out_for_cpu(one)
        self.network = networks[0]
        self.list_of_parameters = [network.state_dict() for network in networks]
        return networks

    @property
    def is_natural(self) -> bool:
        """Whether the model takes photographs rather than volumes with a physical spacing."""
        return self.plans_manager.image_reader_writer_class.__name__ == NATURAL_READER

    @property
    def takes_pictures(self) -> bool:
        """Whether a case is one grey or colour picture of 8 bits, which any format can hold.

        Other photographs (16 bits, five channels) are read as nnU-Net has read them in training.
        """
        statistics = self.plans_manager.foreground_intensity_properties_per_channel.values()
        eight_bit = all(channel["max"] <= LARGEST_OF_8_BITS for channel in statistics)
        return self.is_natural and self.channels in (1, 3) and eight_bit

    @property
    def channels(self) -> int:
        """Channels of the images that the model takes."""
        return len(self.dataset_json["channel_names"])

    @property
    def needs_prompts(self) -> bool:
        """Whether the network finds no point prompts itself."""
        network = self._promptable
        return network is not None and network.needs_prompts

    @property
    def prompt_channels(self) -> int:
        """Foreground classes that can be prompted, 0 where the network takes no prompts."""
        network = self._promptable
        return 0 if network is None else network.prompt_channels

    @property
    def prompt_points(self) -> int:
        """Points of a class that the network was trained with."""
        network = self._promptable
        return 0 if network is None else network.num_points

    @property
    def _promptable(self) -> SegmentationNetwork | None:
        network = getattr(self.network, "_orig_mod", self.network)
        return network.network if isinstance(network, PlannedNetwork) else None

    @property
    def is_binary(self) -> bool:
        """Whether there is one foreground class, and no regions."""
        manager = self.label_manager
        return not manager.has_regions and len(manager.foreground_labels) == 1

    @property
    def axes(self) -> tuple[int, ...]:
        """The order that preprocessing brings the axes slice, row and column to."""
        return tuple(self.plans_manager.transpose_forward)

    def load(self, case: InputCase) -> LoadedCase:
        """Read the files of a case into what the model was trained on.

        Raises:
            DataError: A file cannot be read.
        """
        if self.takes_pictures:
            return load_natural(case, self.channels)
        reader = self.plans_manager.image_reader_writer_class()
        return load_with_reader(case, reader, self.channels)

    def preprocess(self, loaded: LoadedCase) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the preprocessed image ``(C, Z, H, W)`` and what leads back to its own size."""
        configuration = self.configuration_manager.configuration
        slices, height, width = loaded.image.shape[1:]
        is_picture = loaded.image.dtype == np.uint8 and slices == 1
        by_tables = is_picture and is_large(height, width)
        if by_tables and why_not_by_tables(self.plans_manager.plans, configuration) is None:
            pixels, back = preprocess_photograph(loaded.image, loaded.properties, configuration)
            return torch.from_numpy(pixels), back
        released = configuration.get("nnmedseg", {}).get(RELEASED_INPUT)
        if released is not None:
            image = loaded.image.astype(np.float32, copy=False)
            pixels, back = prepare_as_released(image, loaded.properties, **released)
            return torch.from_numpy(pixels), back
        data, _, properties = self._preprocess(loaded, None)
        return torch.from_numpy(data), properties

    def preprocess_labels(
        self, loaded: LoadedCase, labels: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.integer]:
        """Return labels ``(Z, H, W)`` of a case as ``(1, Z, H, W)`` on its preprocessed image."""
        released = self.configuration_manager.configuration.get("nnmedseg", {}).get(RELEASED_INPUT)
        if released is not None:
            return np.stack([resize_labels(each, released["size"]) for each in labels])[None]
        return self._preprocess(loaded, labels[None])[1]

    def _preprocess(self, loaded: LoadedCase, labels: npt.NDArray[np.integer] | None) -> Any:
        preprocessor = self.configuration_manager.preprocessor_class(verbose=False)
        return preprocessor.run_case_npy(
            loaded.image,
            labels,
            dict(loaded.properties),
            self.plans_manager,
            self.configuration_manager,
            self.dataset_json,
        )

    def start(
        self,
        images: Sequence[tuple[torch.Tensor, dict[str, Any]]],
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
    ) -> tuple[Iterator[tuple[int, Slab]], list[Reduction]]:
        """Return the slabs of preprocessed images, and what makes a prediction of each image's.

        Each slab comes with the number of its image and is given to ``add`` of that reduction,
        which may work in another thread; then its ``finish`` returns the prediction.

        Args:
            images: Each ``(C, Z, H, W)`` with its properties, as `preprocess` returns them; as many
                as `most_together` allows.
            probabilities: Return probabilities too.
            uncertainty: Return the uncertainty too.
        """
        activation = self.label_manager.apply_inference_nonlin if uncertainty else None
        reductions = [
            Reduction(
                properties,
                self.plans_manager,
                self.configuration_manager,
                self.label_manager,
                preprocessed_shape=(data.shape[1], data.shape[2], data.shape[3]),
                probabilities=probabilities,
                uncertainty=uncertainty,
            )
            for data, properties in images
        ]
        window = self._sliding_window(images[0][0].shape[1:], activation)
        return window.slabs_together([data for data, _ in images]), reductions

    def most_together(self, shape: Sequence[int]) -> int:
        """Return how many images like this one fill the batches that have proved to be fast.

        Args:
            shape: Slices, height and width of the preprocessed image.
        """
        if shape[0] > 1 or self.whole_images:
            return 1
        copies = self._sliding_window(shape).copies_at_once(shape)
        return min(MOST_IMAGES, math.ceil(self.batches.worthwhile / copies))

    def predict(
        self,
        data: torch.Tensor,
        properties: dict[str, Any],
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
    ) -> Prediction:
        """Predict a preprocessed image, and bring the result to its own size; see `start`."""
        (prediction,) = self.predict_together(
            [(data, properties)], probabilities=probabilities, uncertainty=uncertainty
        )
        return prediction

    def predict_together(
        self, images: Sequence[tuple[torch.Tensor, dict[str, Any]]], **wanted: bool
    ) -> list[Prediction]:
        """Predict preprocessed images whose tiles share batches; arguments as for `start`."""
        slabs, reductions = self.start(images, **wanted)
        for number, slab in slabs:
            reductions[number].add(slab.logits, slab.probabilities)
        return [reduction.finish() for reduction in reductions]

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(K, Z, H, W)``, averaged over the folds, on the CPU."""
        slabs = [slab.logits for slab in self._sliding_window(data.shape[1:]).slabs(data)]
        return torch.cat(slabs, dim=2 if data.shape[1] == 1 else 1)

    def memory_needed(self, shape: Sequence[int], *, uncertainty: bool = False) -> int:
        """Return the bytes that the logits of an image take while tiles are added up.

        Args:
            shape: Slices, height and width of the preprocessed image.
            uncertainty: As for `start`.
        """
        return window_bytes(
            shape,
            self._patch_for(shape),
            heads=self.label_manager.num_segmentation_heads,
            folds=len(self.networks),
            uncertainty=uncertainty,
        )

    def _sliding_window(
        self,
        shape: Sequence[int],
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> SlidingWindow:
        return SlidingWindow(
            self.networks,
            self._patch_for(shape),
            heads=self.label_manager.num_segmentation_heads,
            batches=self.batches,
            step=self.tile_step_size,
            mirror_axes=self.allowed_mirroring_axes if self.use_mirroring else None,
            activation=activation,
        )

    def _patch_for(self, shape: Sequence[int]) -> tuple[int, ...]:
        planned = tuple(self.configuration_manager.patch_size)
        if not self.whole_images:
            return planned
        return whole_image_patch(planned, shape, self.configuration_manager) or planned


@contextmanager
def _mapped(checkpoints: Sequence[Path]) -> Iterator[None]:
    """Let ``torch.load`` fetch what is used only: the optimiser's state stays on the disk."""
    before = config.load.mmap
    config.load.mmap = all(zipfile.is_zipfile(path) for path in checkpoints)
    try:
        yield
    finally:
        config.load.mmap = before
