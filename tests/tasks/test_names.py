"""Names are the text that was written, in every YAML in which they can be written."""

import json
from unicodedata import normalize

import pytest
import yaml
from datasets import Value

from digits import NAMES, digit_task, evaluate, write_parquet
from hf_paint import InputError, Task, get_task
from hf_paint.cli.recipe import recipe_arguments
from hf_paint.documents.reading import TEXT_KEYS, parse_yaml, read_recipe
from hf_paint.tasks.names import short_form
from hf_paint.tasks.registry import get_tasks


LISTED = "007, 12:30, 1_000, 0x1F, no, off, True, ~, null, 1.50, 1e3, 2020-01-01, =, <<, .5"
WRITTEN = LISTED.split(", ")
MINIMAL = {"name": "t", "dataset": "parquet", "templates": ["{}"]}


def test_lists_of_names(tmp_path):
    text = f"{{name: t, dataset: parquet, templates: ['{{}}'], class_names: [{LISTED}], only_classes: [no, 007]}}"
    (tmp_path / "t.yaml").write_text(text)
    (tmp_path / "block.yaml").write_text(
        "name: t\ndataset: parquet\ntemplates: ['{}']\nlabel_names: null\nonly_classes:\n- no\n- 007\nclass_names:\n"
        + "".join(f"- {name}\n" for name in WRITTEN)
    )
    (tmp_path / "recipe.yaml").write_text(f"seed: 007\npatching_tasks: [{text}]\n")
    recipe = read_recipe(tmp_path / "recipe.yaml")
    assert recipe["seed"] == 7
    tasks = [get_task(text), get_task(tmp_path / "t.yaml"), get_task(tmp_path / "block.yaml")]
    tasks += get_tasks(recipe["patching_tasks"])
    tasks += get_tasks(recipe_arguments({"patching_tasks": recipe["patching_tasks"]}, known={"patching_tasks"})[1:])
    for task in tasks:
        assert list(task.class_names) == WRITTEN
        assert task.only_classes == ("no", "007")
        assert task.label_names is None
        task.to_yaml(tmp_path / "again.yaml")
        assert get_task(tmp_path / "again.yaml") == task
        assert Task.from_dict(yaml.safe_load(yaml.safe_dump(task.to_dict()))) == task


def test_keys_of_groups_and_subsets():
    groups = ", ".join(f"{name}: [{name}, x{index}]" for index, name in enumerate(WRITTEN) if name != "<<")
    task = get_task(f"{{name: t, dataset: parquet, templates: ['{{}}'], class_groups: {{{groups}}}}}")
    assert task.class_names == tuple(name for name in WRITTEN if name != "<<")
    assert task.class_groups["no"] == ("no", "x4")
    base = f"{{name: all, dataset: parquet, templates: ['{{}}'], class_names: [{LISTED}]}}"
    assert get_task(base).class_names == tuple(WRITTEN)


def test_a_name_that_is_listed_twice_is_refused():
    task = "{{name: t, dataset: parquet, templates: ['{{}}'], class_groups: {{{}: [a], dog: [b], {}: [c]}}}}"
    with pytest.raises(InputError, match="the key 'cat' occurs twice"):
        get_task(task.format("cat", "cat"))
    with pytest.raises(InputError, match="`class_groups` lists the class 'caf\u00e9' twice"):
        get_task(task.format("caf\u00e9", "cafe\u0301"))


def test_a_class_subset_takes_names_before_indices(tmp_path):
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(MINIMAL | {"class_names": ["3", "2", "1", "0", "007", "no"]}))
    task = get_task(f"{{extends: {tmp_path}/b.yaml, name: part, class_subset: [0, 3, 007, no]}}")
    assert task.class_names == ("0", "3", "007", "no")
    assert get_task("{extends: cifar10, name: part, class_subset: [cat, 0]}").class_names == ("cat", "airplane")
    with pytest.raises(InputError, match="'7' is neither a class name nor a class index"):
        get_task({"extends": str(tmp_path / "b.yaml"), "name": "part", "class_subset": ["7"]})


def test_other_values_keep_their_types():
    text = (
        "{a: no, b: 007, splits: {train: null, test: 2024}, class_names: null, own_head: yes, x: {label_column: 1_0}}"
    )
    assert parse_yaml(text, "a.yaml", text_keys=TEXT_KEYS) == {
        "a": False,
        "b": 7,
        "splits": {"train": None, "test": "2024"},
        "class_names": None,
        "own_head": True,
        "x": {"label_column": "1_0"},
    }
    where = parse_yaml("{where: {name: 1, config: no}}", "a.yaml", text_keys=TEXT_KEYS)
    assert where == {"where": {"name": 1, "config": False}}
    text = "{base: &base {class_names: [no]}, t: {<<: *base, name: 1_0}}"
    merged = parse_yaml(text, "a.yaml", text_keys=TEXT_KEYS)["t"]
    assert merged == {"class_names": ["no"], "name": "1_0"}
    with pytest.raises(InputError, match="`class_names` must be a list of strings"):
        get_task("{name: t, dataset: parquet, templates: ['{}'], class_names: [a, [b]]}")
    with pytest.raises(InputError, match="`class_names` contains an empty name"):
        get_task("{name: t, dataset: parquet, templates: ['{}'], class_names: [a, '']}")


def test_labels_are_evaluated_under_the_names_as_written(tmp_path, capsys):
    written = ["no", "007", "12:30", "1_000", "0x1F", "off", "y", "~", "1.50", "1e3"]
    file = write_parquet(tmp_path / "t.parquet", written, Value("string"))
    keys = f"class_names: {json.dumps(NAMES)}\nlabel_names: [{', '.join(written)}]\n"
    groups = "class_groups: {" + ", ".join(f"{name}: ['{digit}']" for digit, name in enumerate(written)) + "}\n"
    common = yaml.safe_dump(digit_task(file))
    code, found, error = evaluate(tmp_path, capsys, listed=common + keys, grouped=common + groups)
    assert code == 0, error
    assert found == {"listed": (40, 100.0), "grouped": (40, 100.0)}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Sea-Green", "sea green", True),
        ("caf\u00e9", "CAFE\u0301", True),
        ("café", "cafe", False),
        ("दिन", "दान", False),
        ("ป่า", "ปา", False),
        ("ครู", "คร", False),
        ("が", normalize("NFD", "が"), True),
        ("が", "か", False),
        ("가", normalize("NFD", "가"), True),
        ("C", "C++", False),
        ("\u2764\ufe0f", "\u2600\ufe0f", False),
        ("\u2764\ufe0f", "\u2764", True),
        ("5 $", "5 €", False),
        ("1.5", "15", False),
        ("-1", "1", False),
        ("\u22121", "-1", True),
        ("class-1", "Class 1", True),
        ("7-11", "7 11", True),
        ("Straße", "STRASSE", True),
        ("\u1e9b\u0323", normalize("NFD", "\u1e9b\u0323"), True),
    ],
)
def test_spellings(first, second, same):
    assert (short_form(first) == short_form(second)) == same
