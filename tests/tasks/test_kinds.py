"""Kinds of task: the keys that select them, and the keys they accept."""

import copy
import pickle
from dataclasses import replace

import pytest

from hf_paint import InputError, Task, get_task
from hf_paint.tasks import ClassificationTask, CountingTask, MultipleChoiceTask, TypographicTask
from hf_paint.tasks.keys import ORDER


MINIMAL = {"name": "t", "dataset": "me/data", "templates": ("a {}",)}
KINDS = [
    ({}, ClassificationTask),
    ({"class_names": ("cat", "dog")}, ClassificationTask),
    ({"counting": True}, CountingTask),
    ({"text_column": "word"}, TypographicTask),
    ({"choices_column": "candidates"}, MultipleChoiceTask),
]


@pytest.mark.parametrize(("keys", "kind"), KINDS)
def test_keys_call_for_a_kind(keys, kind):
    task = Task(**MINIMAL, **keys)
    assert type(task) is type(Task.from_dict(MINIMAL | keys)) is kind
    assert isinstance(task, Task)
    assert task == Task.from_dict(task.to_dict()) == copy.deepcopy(task) == pickle.loads(pickle.dumps(task))
    renamed = replace(task, name="other")
    assert type(renamed) is kind
    assert renamed != task


def test_each_kind_has_its_own_keys():
    assert set(ORDER) == {key for kind in Task.kinds.values() for key in kind.known_keys()}
    assert set(MultipleChoiceTask.known_keys()) & {"class_names", "attack", "streaming", "text_column"} == set()
    assert set(ClassificationTask.known_keys()) & {"choices_column", "prompt", "counting"} == set()
    question = Task(**MINIMAL, choices_column="c")
    assert (question.class_names, question.class_groups, question.attack, question.streaming) == (None,) * 3 + (False,)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"question_column": "q"}, "`question_column` is not a key of a classification task. .* `choices_column` for"),
        ({"prompt": "{answer}"}, "Remove it, or add `choices_column` for a multiple-choice task"),
        ({"choices_column": "c", "label_column": "x"}, "Remove it, or `choices_column`, which makes the task a mult"),
        ({"text_column": "w", "choices_column": "c"}, "`text_column` is not a key of a multiple-choice task"),
        ({"text_column": "w", "streaming": True}, "`streaming` is not a key of a typographic task"),
        ({"streaming": True, "where": {"a": 1}}, "sets both `streaming` and `where`"),
        ({"prompts": None}, "Unknown key 'prompts'"),
    ],
)
def test_keys_of_other_kinds_are_refused_by_name(keys, message):
    with pytest.raises(InputError, match=message):
        get_task(MINIMAL | keys)


def test_null_and_false_switch_a_key_off():
    off = {"counting": False, "text_column": None, "choices_column": None, "prompt": None}
    assert get_task(MINIMAL | off) == get_task(MINIMAL)
    plain = get_task({"extends": "clevr_count", "name": "plain", "counting": False})
    assert type(plain) is ClassificationTask
    assert "counting" not in plain.to_dict()


def test_a_new_kind_is_a_subclass(monkeypatch):
    from dataclasses import dataclass

    monkeypatch.setattr(Task, "kinds", dict(Task.kinds))

    @dataclass(frozen=True, kw_only=True)
    class RankingTask(Task, kind="ranking", key="rank_column"):
        rank_column: str

    task = get_task(MINIMAL | {"rank_column": "rank"})
    assert type(task) is RankingTask
    assert list(task.to_dict())[-1] == "rank_column"
    with pytest.raises(InputError, match="`rank_column` is not a key of a counting task"):
        get_task(MINIMAL | {"counting": True, "rank_column": "rank"})


def test_a_task_is_written_as_yaml_with_relative_data_files(tmp_path):
    files = {"train": [str(tmp_path / "a.parquet"), "hf://datasets/me/x/c.parquet"], "test": "/elsewhere/b.parquet"}
    task = get_task(MINIMAL | {"dataset": "parquet", "data_files": files, "counting": True})
    task.to_yaml(tmp_path / "task.yaml")
    text = (tmp_path / "task.yaml").read_text()
    assert str(tmp_path) not in text
    assert text.startswith("name: t\ndataset: parquet\ntemplates:\n- a {}\ndata_files:\n  train:\n  - a.parquet\n")
    assert get_task(tmp_path / "task.yaml") == task
