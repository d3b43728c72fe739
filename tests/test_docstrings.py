"""Every example in the public names' docstrings runs."""

import doctest
import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

import hf_paint
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.models.towers import image_tower, image_tower_weights


def documented():
    """Yield the public names, and everything else in the package whose docstring holds an example."""
    seen = set()
    for name in hf_paint.__all__:
        seen.add(id(getattr(hf_paint, name)))
        yield name, getattr(hf_paint, name)
    for info in pkgutil.walk_packages(hf_paint.__path__, "hf_paint."):
        if not info.name.endswith("__main__"):
            for name, thing in vars(import_module(info.name)).items():
                is_own = getattr(thing, "__module__", None) == info.name and id(thing) not in seen
                if is_own and ">>>" in (getattr(thing, "__doc__", None) or ""):
                    yield f"{info.name.removeprefix('hf_paint.')}.{name}", thing


OBJECTS = list(documented())
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
    here |= {"image_tower": image_tower, "image_tower_weights": image_tower_weights}
    module = import_module(thing.__module__)
    found = doctest.DocTestFinder(recurse=False).find(thing, name, module=module, globs=vars(module) | here)
    examples = [test for test in found if test.examples]
    assert examples or name in NEEDS_NO_EXAMPLE
    for test in examples:
        output = []
        runner = doctest.DocTestRunner(checker=IgnoreTrainingLog(), optionflags=doctest.ELLIPSIS)
        assert runner.run(test, out=output.append).failed == 0, "".join(output)


class IgnoreTrainingLog(doctest.OutputChecker):
    """Ignores training logs, which go to stdout before an example's value."""

    def check_output(self, want, got, optionflags):
        shown = "".join(line for line in got.splitlines(keepends=True) if not line.startswith("{'"))
        return super().check_output(want, got, optionflags) or super().check_output(want, shown, optionflags)


def test_public_names_are_the_documented_ones():
    assert sorted(hf_paint.__all__) == hf_paint.__all__
    listed = [name for names in hf_paint._PACKAGES.values() for name in names]
    assert sorted(listed) == hf_paint.__all__  # each once
    assert not set(listed) & {package.partition(".")[0] for package in hf_paint._PACKAGES}  # it would hide the name
    typed = re.findall(r"(\w+) as \1", Path(hf_paint.__file__).read_text())
    assert sorted(typed) == hf_paint.__all__  # what type checkers see
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hf_paint.nonsense  # noqa: B018


def exported_functions():
    return [getattr(hf_paint, name) for name in hf_paint.__all__ if inspect.isfunction(getattr(hf_paint, name))]


@pytest.mark.parametrize("function", exported_functions(), ids=lambda function: function.__name__)
def test_a_function_documents_its_arguments_and_what_it_returns(function):
    text, signature = inspect.getdoc(function), inspect.signature(function)
    documented = re.findall(r"^    (\w+(?:, \w+)*):", text.partition("Args:\n")[2].partition("\n\n")[0], re.M)
    assert [name for names in documented for name in names.split(", ")] == list(signature.parameters)
    says = re.search(r"^(Returns:$|Yields:$|Return\b)|^.* and return\b", text, re.M)
    assert signature.return_annotation is None or says
