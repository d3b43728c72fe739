"""Prompts that are cut, and classes with the same prompts, are named once."""

import pytest
from transformers.utils import logging

from drawn_tasks import write_task_yaml
from hf_paint import Task
from hf_paint.cli.main import main
from hf_paint.models.prompt_checks import warn_of_prompts


KEYS = {"dataset": "parquet", "templates": ["a photo of a {}.", "{}"]}
LONG = "number one two three " * 12  # far more than the 32 tokens of the tiny model's context


@pytest.fixture
def warnings(model, processor, caplog):
    """A function that returns the warnings about a task with these classes."""
    logging.get_logger("hf_paint").warning_once.cache_clear()

    def warn(names, **keys):
        caplog.clear()
        task = Task.from_dict({"name": "t", "class_names": names} | KEYS | keys)
        for _ in range(2):  # a run builds the head of a task several times
            warn_of_prompts(model, processor.tokenizer, task, task.class_names)
        return [record.message for record in caplog.records]

    return warn


def test_names_that_differ_in_case_alone_are_the_same_to_the_model(warnings):
    [warning] = warnings(["red", "Dog", "dog", "abc", "ABC"])
    assert warning.startswith("4 class names of task 't' have the same prompts as another class")
    assert "'Dog', 'dog'; 'abc', 'ABC'." in warning
    assert warnings(["red", "green", "blue"]) == []


def test_equal_names_of_different_labels(warnings):
    [warning] = warnings(["missile", "red", "missile"], label_names=["a", "b", "c"])
    assert "'missile', 'missile'." in warning


def test_names_of_one_group_may_be_the_same(warnings):
    assert warnings(["a", "b"], class_groups={"a": ["Dog", "dog"], "b": ["red"]}) == []
    [warning] = warnings(["a", "b"], class_groups={"a": ["Dog", "red"], "b": ["dog"]})
    assert "'Dog', 'dog'" in warning


def test_names_that_are_cut_to_the_same_tokens(warnings):
    cut, same = warnings([LONG + end for end in ("red", "green", "blue")] + ["grey"], templates=["a photo of a {}."])
    assert cut.startswith("3 of the 4 prompts of task 't' are longer than the 32 tokens that the model reads")
    assert same.startswith("3 class names of task 't'")
    assert all(end in same for end in ("red'", "green'", "blue'"))
    [cut] = warnings(["red " + LONG, "green " + LONG])
    assert cut.startswith("4 of the 4 prompts")
    exact = "a" + " a" * 29  # with the start and end of the text, 32 tokens
    assert warnings([exact, "red"], templates=["{}"]) == []
    [cut] = warnings([exact + " a", "red"], templates=["{}"])
    assert cut.startswith("1 of the 2 prompts")


def test_evaluate_says_it_once(model_folder, tmp_path, caplog):
    names = ["Red", "red", "blue", LONG]
    keys = {"class_names": names, "label_names": ["red", "green", "blue", "grey"]}
    path = write_task_yaml(tmp_path, "shades", splits={"validation": None}, **keys)
    assert main(["evaluate", model_folder, "--tasks", path, "--use_cpu"]) == 0
    said = [record.message.split(" task")[0] for record in caplog.records if "task 'shades'" in record.message]
    assert sorted(said) == ["1 of the 4 prompts of", "2 class names of"]
