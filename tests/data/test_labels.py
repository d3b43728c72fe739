"""Matching a data set's labels with a task's class names."""

from dataclasses import replace
from itertools import permutations

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_paint import InputError, Task
from hf_paint.data.labels import match_class_names, read_classes, unite_names
from hf_paint.tasks.names import short_form


NAMES = ("red", "Dark Blue", "sea-green")
TASK = Task.from_dict({"name": "t", "dataset": "parquet", "templates": ["{}"], "class_names": list(NAMES)})


def rows(label, values=()):
    return Dataset.from_dict({"label": list(values)}, features=Features({"label": label}))


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("spell", [str, str.upper, lambda name: name.lower().replace(" ", "_").replace("-", "")])
def test_names_match_in_any_order_and_spelling(order, spell):
    assert match_class_names(TASK, [spell(NAMES[index]) for index in order]) == dict(enumerate(order))


def test_an_equal_name_wins_over_a_similar_one():
    task = replace(TASK, class_names=("a b", "ab"))
    assert match_class_names(task, ["ab", "a b"]) == {0: 1, 1: 0}
    with pytest.raises(InputError, match="'AB'"):
        match_class_names(replace(TASK, class_names=("A B", "A-B")), ["AB", "A B"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["red", "dark blue", "sea green", "grey"], "lists 3 classes but 'parquet' has 4"),
        (["red", "dark blue", "yellow"], "for instance 'yellow'"),
        (["red", "dark blue", "Dark_Blue"], "for instance 'dark blue'"),
    ],
)
def test_each_name_in_the_data_needs_a_class_of_its_own(labels, message):
    with pytest.raises(InputError, match=message):
        match_class_names(TASK, labels)


def test_a_data_set_may_lack_some_classes():
    assert match_class_names(TASK, ["sea green", "red"]) == {0: 2, 1: 0}


def test_classes_of_each_kind_of_column():
    named = rows(ClassLabel(names=["sea green", "red", "dark blue"]))
    assert read_classes(TASK, named) == (NAMES, {0: 2, 1: 0, 2: 1})
    assert read_classes(replace(TASK, class_names=None), named) == (
        ("sea green", "red", "dark blue"),
        {0: 0, 1: 1, 2: 2},
    )
    assert read_classes(TASK, rows(Value("int64"), [2])) == (NAMES, {0: 0, 1: 1, 2: 2})
    names, ids = read_classes(TASK, rows(Value("string"), ["red"]))
    assert names == NAMES
    assert [ids[name] for name in ("red", "Dark Blue", "darkblue", "seagreen")] == [0, 1, 1, 2]


def test_a_column_without_names_needs_class_names():
    with pytest.raises(InputError, match="has no class names"):
        read_classes(replace(TASK, class_names=None), rows(Value("int64"), [0]))


def test_many_names_are_united_with_each_spelled_a_few_times(monkeypatch):
    names = [f"Class-Number {number}" for number in range(300)]
    others = [f"class number {number}" for number in range(150, 450)]
    calls = []
    monkeypatch.setattr("hf_paint.data.labels.short_form", lambda name: calls.append(name) or short_form(name))
    assert unite_names([names, others]) == names + others[150:]
    assert len(calls) <= 20 * len(names)
