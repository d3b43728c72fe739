"""What a name stands for, before anything is opened: in well under a second, without torch and without a network."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hf_paint import Task, get_task
from hf_paint.errors import InputError
from hf_paint.tasks.names import as_words
from hf_paint.tasks.registry import get_tasks
from hf_paint.tasks.subsets import Splits


PLACES = (
    *("textures/red/1.png", "flat/1.png", "flat/labels.csv", "docs/a.txt", "cat.png", "rows.xlsx", "named/train.csv"),
    *("named/other.csv", "mixed/a.csv", "mixed/b.parquet", "My Photos (2)/a/1.jpg", "cars/train.parquet"),
    *("repo/data/train-00000-of-00002.parquet", "repo/data/train-00001-of-00002.parquet", "repo/dataset_infos.json"),
    *("repo/data/test-00000-of-00001.parquet", "me/here/a/1.png", "x/dev/1.csv", "x/training/1.csv", "x/README.md"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for place in PLACES:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("reference", "name", "dataset", "place"),
    [
        ("textures/", "textures", "imagefolder", "textures"),
        ("textures", "textures", "imagefolder", "textures"),
        (Path("My Photos (2)"), "my-photos-2", "imagefolder", "My Photos (2)"),
        ("flat/labels.csv", "flat", "csv", {"train": ["flat/labels.csv"]}),
        ("cars/train.parquet", "cars", "parquet", {"train": ["cars/train.parquet"]}),
        ("x/", "x", "csv", {"train": ["x/training/1.csv"], "validation": ["x/dev/1.csv"]}),
        ("me/here", "here", "imagefolder", "me/here"),
        ("{dataset: textures/, name: other}", "other", "imagefolder", "textures"),
        ({"dataset": "textures/", "templates": "a {}"}, "textures", "imagefolder", "textures"),
        ({"extends": "textures/", "name": "second"}, "second", "imagefolder", "textures"),
        (
            "repo",
            "repo",
            "parquet",
            {
                "train": [f"repo/data/train-0000{part}-of-00002.parquet" for part in range(2)],
                "test": ["repo/data/test-00000-of-00001.parquet"],
            },
        ),
    ],
)
def test_a_path_names_a_task(reference, name, dataset, place, folder):
    task = get_task(reference)
    found = task.data_dir or task.data_files
    expected = (
        {key: [str(folder / path) for path in paths] for key, paths in place.items()}
        if dataset != "imagefolder"
        else None
    )
    assert (task.name, task.dataset) == (name, dataset)
    assert found == (expected or str(folder / place))
    assert task.guess


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("me/pets", ("pets", "me/pets", None, None)),
        ("me/pets:dogs", ("pets-dogs", "me/pets", "dogs", None)),
        ("me/Pets_2@v1", ("pets_2", "me/Pets_2", None, "v1")),
        ("me/pets:dogs@refs/convert/parquet", ("pets-dogs", "me/pets", "dogs", "refs/convert/parquet")),
        ({"dataset": "me/pets:dogs", "name": "mine"}, ("mine", "me/pets", "dogs", None)),
    ],
)
def test_one_slash_names_a_data_set_on_the_hub(reference, expected):
    task = get_task(reference)
    assert (task.name, task.dataset, task.config, task.revision) == expected


def test_a_complete_definition_means_what_it_meant(folder):
    """Of a data set on the Hub, or of a format with its files."""
    for dataset in ("me/pets", "parquet"):
        task = get_task({"name": "pets", "dataset": dataset, "templates": ["a {}"]})
        assert (task.splits, task.guess) == (Splits(train="train", validation="auto", test="test"), False)


def test_a_recipe_that_was_written_is_read_as_it_is(folder):
    """Also if the folder that it names is not there."""
    definition = {"name": "pets", "dataset": "gone/", "templates": ["a {}"], "splits": {"validation": None}}
    assert get_task(definition) == Task.from_dict(definition)
    choices = {"name": "vqa", "dataset": "me/vqa", "choices_column": "choices"}
    assert get_task(choices) == Task.from_dict(choices)


def test_a_task_file_names_data_beside_it(folder):
    definition = {"name": "cars", "dataset": "cars/train.parquet", "templates": "a {}"}
    (folder / "x.yaml").write_text(yaml.safe_dump(definition))
    task = get_task("x.yaml")
    assert (task.dataset, task.data_files) == ("parquet", {"train": [str(folder / "cars" / "train.parquet")]})
    assert (task.splits.validation, task.guess) == ("auto", False)
    (folder / "x.yaml").write_text("{dataset: textures/, guess: true, name: mine}")
    task = get_task("x.yaml")
    assert (task.name, task.data_dir, task.guess) == ("mine", str(folder / "textures"), True)
    assert Task.from_dict(task.to_dict()) == task


def test_built_in_names_stay(folder):
    (folder / "cifar10").mkdir()
    assert get_task("cifar10").dataset == "tanganke/cifar10"
    task = get_task({"dataset": "cifar10", "templates": "art of a {}."})
    assert (task.name, task.dataset, task.templates) == ("cifar10", "tanganke/cifar10", ("art of a {}.",))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("minst", "'minst' is unknown. Did you mean 'mnist'.*A folder of pictures in class folders"),
        ("texturs/", "no file or folder 'texturs'. Did you mean 'textures'"),
        ("textures/rd", "no file or folder 'textures/rd'. Did you mean 'red'"),
        ("./me/pets", "no file or folder 'me/pets'"),
        ("nope.csv", "no file or folder 'nope.csv'"),
        ("a/b/c", "no file or folder 'a/b/c'"),
        ("empty", "empty' is empty. Name a folder of pictures in class folders"),
        ("docs", "holds no pictures or data files, only files like 'a.txt'"),
        ("cat.png", "its ending '.png' is none of .parquet, .arrow, .csv"),
        ("rows.xlsx", "its ending '.xlsx' is none of"),
        ("flat", "pictures without class folders, and the file 'labels.csv'. Name that file"),
        ("mixed", "files of several formats, like 'a.csv' and 'b.parquet'"),
        ("named", "'train.csv', which is named like a split, and 'other.csv', which is not"),
        ("", "Task '' is unknown"),
        ("name: x\n" * 100, "is unknown"),
        ("/" + "x" * 5000, "no file or folder"),
        ({"dataset": "nope/", "name": "x"}, "no file or folder 'nope'"),
        ([], "of type list"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(reference, message, folder):
    with pytest.raises(InputError, match=message):
        get_task(reference)


def test_references_are_looked_up_without_torch(folder):
    code = "import sys, hf_paint; hf_paint.get_task('textures/'); print({'torch', 'datasets'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_fields_take_the_plain_values_of_yaml():
    plain = Task(
        name="pets",
        dataset="me/pets",
        templates="a {}",
        class_names=["cat", "dog"],
        splits={"validation": None},
        class_groups={"cat": ["cat", "kitten"], "dog": ["dog"]},
        corruption={"name": "blur", "severity": 2},
    )
    definition = {"name": "pets", "dataset": "me/pets", "templates": ["a {}"], "splits": {"validation": None}}
    definition |= {
        "class_groups": {"cat": ["cat", "kitten"], "dog": ["dog"]},
        "corruption": {"name": "blur", "severity": 2},
    }
    assert plain == Task.from_dict(definition)
    assert Task.from_dict(plain.to_dict()) == plain
    assert plain.templates == ("a {}",)


def test_class_names_may_map_the_names_in_the_data_to_words():
    task = Task(
        name="a", dataset="me/a", templates="a {}", class_names={"polka_dotted": "covered in dots", "red": "red"}
    )
    assert task.class_names == ("covered in dots", "red")
    assert task.label_names == ("polka_dotted", "red")
    part = get_task(
        {"extends": "mnist", "name": "part", "class_names": {str(digit): f"the {digit}" for digit in range(10)}}
    )
    assert part.class_names[3] == "the 3"


def test_names_become_words_unless_they_become_equal():
    assert as_words(["polka_dotted", "t-shirt", "x_y", "x y", "__", "a__b_"]) == (
        *("polka dotted", "t-shirt", "x_y", "x y", "__", "a b"),
    )


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"validation": "stratified", "train": None}, "so `train` must be a split"),
        ({"test": "stratified"}, "no other split can be `auto`"),
        ({"train": "stratified", "test": "stratified", "validation": None}, "so `train` must be a split"),
        ({"test": "guess", "validation": None}, "needs `guess: true`"),
    ],
)
def test_splits_that_cannot_be_drawn_are_refused(splits, message):
    with pytest.raises(InputError, match=message):
        Task(name="a", dataset="me/a", templates="a {}", splits=splits)
    with pytest.raises(InputError, match="is streamed"):
        Task(name="a", dataset="me/a", templates="a {}", streaming=True, splits={"validation": "stratified"})


def test_several_references_are_several_tasks(folder):
    assert [task.name for task in get_tasks(["mnist", "textures/", [("cat.png", "cat")]])] == [
        "mnist",
        "textures",
        "dataset",
    ]
    assert [task.name for task in get_tasks([("cat.png", "cat")])] == ["dataset"]
