"""What nnmedseg relies on in nnU-Net: if a release changes it, this says where to look."""

import inspect
import pydoc

import pytest

TRAINER = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer.nnUNetTrainer"
PLANNER = (
    "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner.ExperimentPlanner"
)
PREDICTOR = "nnunetv2.inference.predict_from_raw_data.nnUNetPredictor"
PREPROCESSOR = "nnunetv2.preprocessing.preprocessors.default_preprocessor.DefaultPreprocessor"
PLANS = "nnunetv2.utilities.plans_handling.plans_handler"
DATASET = "nnunetv2.training.dataloading.nnunet_dataset"
EXPORT = "nnunetv2.inference.export_prediction"

SIGNATURES = {
    f"{TRAINER}.__init__": "self plans configuration fold dataset_json device",
    f"{TRAINER}.build_network_architecture": "plans_manager configuration_manager "
    "num_input_channels num_output_channels enable_deep_supervision",
    f"{TRAINER}.set_deep_supervision_enabled": "self enabled",
    f"{TRAINER}._build_loss": "self",
    f"{TRAINER}._do_i_compile": "self",
    f"{TRAINER}.configure_optimizers": "self",
    f"{TRAINER}.plot_network_architecture": "self",
    f"{TRAINER}.print_plans": "self",
    f"{TRAINER}.save_checkpoint": "self filename",
    f"{TRAINER}.do_split": "self",
    f"{TRAINER}.run_training": "self",
    f"{TRAINER}.perform_actual_validation": "self save_probabilities",
    f"{PLANNER}.__init__": "self dataset_name_or_id gpu_memory_target_in_gb preprocessor_name "
    "plans_name overwrite_target_spacing suppress_transpose",
    f"{PLANNER}.determine_fullres_target_spacing": "self",
    f"{PLANNER}.generate_data_identifier": "self configuration_name",
    f"{PLANNER}.get_plans_for_configuration": "self spacing median_shape data_identifier "
    "approximate_n_voxels_dataset _cache",
    f"{PLANNER}.static_estimate_VRAM_usage": "patch_size input_channels output_channels "
    "arch_class_name arch_kwargs arch_kwargs_req_import",
    "nnunetv2.utilities.get_network_from_plans.get_network_from_plans": "arch_class_name "
    "arch_kwargs arch_kwargs_req_import input_channels output_channels allow_init "
    "deep_supervision",
    f"{PLANNER}.plan_experiment": "self",
    f"{PLANNER}.save_plans": "self plans",
    f"{PREDICTOR}.initialize_from_trained_model_folder": "self model_training_output_dir "
    "use_folds checkpoint_name",
    f"{PREDICTOR}.manual_initialization": "self network plans_manager configuration_manager "
    "parameters dataset_json trainer_name inference_allowed_mirroring_axes",
    f"{PREDICTOR}.predict_sliding_window_return_logits": "self input_image",
    f"{PREDICTOR}.predict_logits_from_preprocessed_data": "self data",
    f"{PREPROCESSOR}.run_case_npy": "self data seg properties plans_manager "
    "configuration_manager dataset_json",
    f"{PREPROCESSOR}.run_case_save": "self output_filename_truncated image_files seg_file "
    "plans_manager configuration_manager dataset_json",
    f"{EXPORT}.export_prediction_from_logits": "predicted_array_or_file properties_dict "
    "configuration_manager plans_manager dataset_json_dict_or_file output_file_truncated "
    "save_probabilities num_threads_torch",
    f"{EXPORT}.convert_predicted_logits_to_segmentation_with_correct_shape": "predicted_logits "
    "plans_manager configuration_manager label_manager properties_dict return_probabilities "
    "num_threads_torch",
    f"{PREPROCESSOR}._sample_foreground_locations": "seg classes_or_regions seed verbose "
    "min_num_samples min_percent_coverage",
    f"{PLANS}.ConfigurationManager.__init__": "self configuration_dict",
    f"{DATASET}.nnUNetBaseDataset.__init__": "self folder identifiers "
    "folder_with_segs_from_previous_stage",
    f"{DATASET}.nnUNetBaseDataset.load_case": "self identifier",
    f"{DATASET}.nnUNetBaseDataset.save_case": "data seg properties output_filename_truncated",
    f"{DATASET}.nnUNetBaseDataset.get_identifiers": "folder",
    f"{DATASET}.infer_dataset_class": "folder",
    "nnunetv2.utilities.find_class_by_name.recursive_find_python_class": "folder class_name "
    "current_module base_folder verbose cleanup_imports_from_base_folder",
    "nnunetv2.preprocessing.cropping.cropping.crop_to_nonzero": "data seg nonzero_label",
    "nnunetv2.evaluation.evaluate_predictions.compute_metrics": "reference_file "
    "prediction_file image_reader_writer labels_or_regions ignore_label",
    "nnunetv2.evaluation.evaluate_predictions.save_summary_json": "results output_file",
    "nnunetv2.utilities.find_objects.recursive_find_trainer_class_by_name": "trainer_name",
    "nnunetv2.utilities.utils.get_filenames_of_train_images_and_targets": "raw_dataset_folder "
    "dataset_json",
    "nnunetv2.training.lr_scheduler.polylr.PolyLRScheduler.__init__": "self optimizer "
    "initial_lr max_steps exponent current_step",
}


@pytest.mark.parametrize("symbol", SIGNATURES)
def test_nnunet_still_has_the_signature_that_is_relied_on(symbol):
    found = pydoc.locate(symbol)
    assert found is not None, f"{symbol} is gone"
    assert list(inspect.signature(found).parameters) == SIGNATURES[symbol].split()
