"""Every example in the docstrings of the public names runs."""

import doctest
from importlib import import_module

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

import hf_paint
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.models import loading as modeling


OBJECTS = [
    *((name, getattr(hf_paint, name)) for name in hf_paint.__all__),
    *(
        (f"{module}.{name}", getattr(import_module(f"hf_paint.{module}"), name))
        for module, name in [
            ("adapter_files", "check_linear"),
            ("adaptive", "bisection"),
            ("adaptive", "sweep_adaptively"),
            ("compatibility", "check_compatible"),
            ("counting", "count_values"),
            ("bootstrap", "paired_bootstrap_interval"),
            ("data", "split_train_validation"),
            ("examples", "choose_images"),
            ("examples", "describe_choice"),
            ("fingerprints", "fingerprint_weights"),
            ("interpolation", "combine_into"),
            ("losses", "masked_cross_entropy"),
            ("joint_images", "JointImages"),
            ("joint_images", "images_per_epoch"),
            ("classifier", "image_classifier"),
            ("heads", "GroupedHead"),
            ("heads", "member_rows"),
            ("methods", "read_method"),
            ("metrics", "Accuracy"),
            ("metrics", "accuracy"),
            ("metrics", "expected_calibration_error"),
            ("metrics", "mean_absolute_error"),
            ("metrics", "mean_per_class_accuracy"),
            ("modeling", "attention"),
            ("modeling", "image_tower"),
            ("multitask", "JointHead"),
            ("patch_config", "read_patch_config"),
            ("patches", "save_patch"),
            ("precision", "compare_precisions"),
            ("prompts", "embed_prompts"),
            ("results", "ResultLog"),
            ("corruptions", "Corruption"),
            ("run_folder", "RunFolder"),
            ("running_mean", "RunningMean"),
            ("weight_changes", "measure_weight_changes"),
            ("weight_files", "read_checkpoint"),
        ]
    ),
]
NEEDS_NO_EXAMPLE = {"InputError", "PatchOptions", "PatchResult", "PushOptions", "Task"}


@pytest.mark.parametrize(("name", "thing"), OBJECTS, ids=[name for name, _ in OBJECTS])
def test_example_runs(
    name,
    thing,
    model,
    processor,
    model_folder,
    patch_folder,
    adapter_folder,
    classifier_folder,
    task,
    other_task,
    tmp_path,
):
    here = {"np": np, "torch": torch, "nn": nn, "model": model, "processor": processor, "model_folder": model_folder}
    here |= {"patch_folder": patch_folder, "classifier_folder": classifier_folder}
    here |= {"adapter_folder": adapter_folder}
    here |= {"tokenizer": processor.tokenizer, "task": task, "other_task": other_task, "tmp_path": tmp_path}
    here |= {key: getattr(hf_paint, key) for key in hf_paint.__all__}
    here |= {"Accelerator": Accelerator, "Evaluator": Evaluator}
    here |= {"image_tower": modeling.image_tower, "image_tower_weights": modeling.image_tower_weights}
    module = import_module(thing.__module__)
    found = doctest.DocTestFinder(recurse=False).find(thing, name, module=module, globs=vars(module) | here)
    examples = [test for test in found if test.examples]
    assert examples or name in NEEDS_NO_EXAMPLE
    for test in examples:
        output = []
        runner = doctest.DocTestRunner(checker=IgnoreTrainingLog(), optionflags=doctest.ELLIPSIS)
        assert runner.run(test, out=output.append).failed == 0, "".join(output)


class IgnoreTrainingLog(doctest.OutputChecker):
    """Training logs to stdout, ahead of the value that an example shows."""

    def check_output(self, want, got, optionflags):
        shown = "".join(line for line in got.splitlines(keepends=True) if not line.startswith("{'"))
        return super().check_output(want, got, optionflags) or super().check_output(want, shown, optionflags)


def test_public_names_are_the_documented_ones():
    assert sorted(hf_paint.__all__) == hf_paint.__all__
    assert set(hf_paint.__all__) == set(hf_paint._MODULES)
    assert not set(hf_paint.__all__) & set(hf_paint._MODULES.values())  # the module would hide the name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hf_paint.nonsense  # noqa: B018
