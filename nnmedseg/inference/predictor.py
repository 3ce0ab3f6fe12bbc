"""A trained model folder as a function from images to label maps."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnmedseg.cores import cpu_count
from nnmedseg.data.released_input import RELEASED_INPUT, prepare_as_released
from nnmedseg.data.resizing import resize_labels
from nnmedseg.errors import NotFoundError, WeightsError
from nnmedseg.files import read_json
from nnmedseg.inference.cases import InputCase, LoadedCase, load_natural, load_with_reader
from nnmedseg.inference.prediction import Prediction
from nnmedseg.networks import SegmentationNetwork
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.frozen import frozen_weights_in
from nnmedseg.networks.layers.layout import lay_out_weights
from nnmedseg.nnunet import captured_output
from nnmedseg.nnunet.registration import register
from nnmedseg.training.checkpoints import only_plain_values
from nnmedseg.training.settings import RUN_FILE

logger = logging.getLogger(__name__)

NATURAL_READER = "NaturalImage2DIO"
LARGEST_OF_8_BITS = 255

register()


class MedSegPredictor(nnUNetPredictor):
    """nnU-Net's predictor in one process, with weights loaded once.

    Attributes:
        model: The model folder.
        folds: Folds whose logits are averaged.
        split_sha256: Hash of the split that all of these folds were trained with, or None where it
            is not known, as for imported weights, or not the same.
    """

    model: Path
    folds: list[str]
    split_sha256: str | None
    checkpoint_name: str
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
    ) -> MedSegPredictor:
        """Load a model folder ``Trainer__Plans__configuration``.

        Args:
            model: The folder that holds ``plans.json`` and the folds.
            folds: Folds to average, or ``None`` for all that are trained.
            checkpoint: ``"final"`` or ``"best"``.
            device: Where to predict (default: the CPU).
            mirroring: Average over mirrored copies, as nnU-Net does by default.

        Raises:
            NotFoundError: The folder is no model folder, a fold has no such checkpoint, or the file
                of weights that training left frozen is missing.
            WeightsError: A checkpoint cannot be loaded.
        """
        model = Path(model)
        checkpoint_name = f"checkpoint_{checkpoint}.pth"
        chosen = _choose_folds(model, folds, checkpoint_name)
        if device is None or device.type == "cpu":
            torch.set_num_threads(cpu_count())
        with captured_output(logger):
            predictor = cls(
                device=device or torch.device("cpu"), use_mirroring=mirroring, allow_tqdm=False
            )
            try:
                with only_plain_values(), frozen_weights_in(model):
                    predictor.initialize_from_trained_model_folder(
                        str(model), chosen, checkpoint_name
                    )
                    predictor._fuse()
            except pickle.UnpicklingError as error:
                raise WeightsError(
                    "the model cannot be loaded: a checkpoint is damaged, or holds more than "
                    "tensors and plain values, which may be code",
                    where=model,
                    mend="use only models from people you trust; copy the whole folder again",
                ) from error
            except (RuntimeError, KeyError, EOFError, OSError) as error:
                raise WeightsError(
                    f"the model cannot be loaded: {error}",
                    where=model,
                    mend="train it again with --overwrite, or copy the whole folder again",
                ) from error
        predictor.model = model
        predictor.folds = chosen
        predictor.split_sha256 = _split_of(model, chosen)
        predictor.checkpoint_name = checkpoint_name
        return predictor

    def _fuse(self) -> None:
        """Put fused forms in the place of the network and of each fold's parameters.

        A compiled network, and one that is not of this package, stays as it is.
        """
        network = self.network
        if not isinstance(network, PlannedNetwork):
            return
        lay_out_weights(network, self.device)
        for number, parameters in enumerate(self.list_of_parameters):
            network.load_state_dict(parameters)
            self.network = network.fuse()
            self.list_of_parameters[number] = self.network.state_dict()
        if len(self.list_of_parameters) > 1:
            # nnU-Net writes each fold's parameters into the network: it needs memory of its own.
            self.network = copy.deepcopy(self.network)

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
        return load_with_reader(case, self.plans_manager.image_reader_writer_class())

    def preprocess(self, loaded: LoadedCase) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the preprocessed image ``(C, Z, H, W)`` and what leads back to its own size."""
        released = self.configuration_manager.configuration.get("nnmedseg", {}).get(RELEASED_INPUT)
        if released is not None:
            pixels, back = prepare_as_released(loaded.image, loaded.properties, **released)
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

    @torch.inference_mode()
    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(K, Z, H, W)``, averaged over the folds, on the CPU."""
        if len(self.list_of_parameters) > 1:
            return super().predict_logits_from_preprocessed_data(data)
        # nnU-Net loads the weights again for every image; with one fold they are in place.
        return self.predict_sliding_window_return_logits(data).cpu()

    def predict(
        self,
        data: torch.Tensor,
        properties: dict[str, Any],
        *,
        probabilities: bool = False,
    ) -> Prediction:
        """Predict a preprocessed image, and bring the result to the image's own size.

        Args:
            data: ``(C, Z, H, W)``, as `preprocess` returns it.
            properties: Likewise.
            probabilities: Return probabilities too.
        """
        logits = self.predict_logits_from_preprocessed_data(data)
        result = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            self.plans_manager,
            self.configuration_manager,
            self.label_manager,
            properties,
            return_probabilities=probabilities,
            num_threads_torch=torch.get_num_threads(),
        )
        if not probabilities:
            return Prediction(result)
        return Prediction(result[0], result[1].astype(np.float16))

    def labels(
        self, logits: torch.Tensor, properties: dict[str, Any]
    ) -> npt.NDArray[np.unsignedinteger]:
        """Return the label map ``(Z, H, W)`` at the size of the original image."""
        return convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            self.plans_manager,
            self.configuration_manager,
            self.label_manager,
            properties,
            num_threads_torch=torch.get_num_threads(),
        )


def _choose_folds(
    model: Path, folds: Sequence[int | str] | None, checkpoint_name: str
) -> list[str]:
    if not (model / "plans.json").is_file():
        raise NotFoundError(
            "there is no trained model here",
            where=model,
            mend="train it first (nnmedseg_train), or check -d, -c, -tr and -p, or give -m",
        )
    trained = sorted(path.parent.name[5:] for path in model.glob(f"fold_*/{checkpoint_name}"))
    chosen = trained if folds is None else [str(fold) for fold in folds]
    missing = [fold for fold in chosen if fold not in trained]
    if missing or not chosen:
        raise NotFoundError(
            f"fold {', '.join(missing) or 'of any number'} has no {checkpoint_name}; "
            f"trained here: {', '.join(trained) or 'none'}",
            where=model,
            mend="let the training finish, choose another fold with -f, or --checkpoint best",
        )
    return chosen


def _split_of(model: Path, folds: Sequence[str]) -> str | None:
    records = [model / f"fold_{fold}" / RUN_FILE for fold in folds]
    hashes = {
        read_json(record).get("split_sha256") if record.is_file() else None for record in records
    }
    if len(hashes) > 1:
        logger.warning(
            "The folds %s of %s do not all say that they were trained with one split: what one of "
            "them held out, another may have been trained on",
            ", ".join(folds),
            model.name,
        )
        return None
    return hashes.pop()
