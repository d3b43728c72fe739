import json

import numpy as np
import pytest
import yaml

from hf_paint import InputError, Task, get_task, list_tasks
from hf_paint.data.labels import match_class_names
from hf_paint.tasks.subsets import ClassSplit


COUNTS = {  # classes and templates, from the released code of PAINT and WiSE-FT and the prompts of CLIP
    "caltech101": (102, 34),
    "cars": (196, 8),
    "cifar10": (10, 18),
    "cifar100": (100, 18),
    "clevr_count": (8, 1),
    "dtd": (47, 8),
    "emnist_letters": (26, 1),
    "eurosat": (10, 3),
    "fashion_mnist": (10, 8),
    "fer2013": (7, 6),
    "fgvc_aircraft": (100, 2),
    "flowers102": (102, 1),
    "food101": (101, 1),
    "gtsrb": (43, 3),
    "imagenet": (1000, 80),
    "imagenet_a": (200, 80),
    "imagenet_r": (200, 80),
    "imagenet_sketch": (1000, 80),
    "imagenet_v2": (1000, 80),
    "kitti_distance": (4, 1),
    "kmnist": (10, 1),
    "mnist": (10, 1),
    "objectnet": (113, 80),
    "oxford_pets": (37, 1),
    "paint_typographic": (None, 1),
    "pcam": (2, 1),
    "rendered_sst2": (2, 1),
    "resisc45": (45, 18),
    "scam": (None, 1),
    "scam_clean": (None, 1),
    "scam_synthetic": (None, 1),
    "stl10": (10, 2),
    "sun397": (397, 2),
    "svhn": (10, 1),
    "ucf101": (101, 48),
}
MINIMAL = {"name": "t", "dataset": "me/data", "templates": ["a {}"]}


def test_every_data_set_of_the_papers_is_there():
    tasks = {name: get_task(name) for name in list_tasks()}
    counts = {name: (task.class_names and len(task.class_names), len(task.templates)) for name, task in tasks.items()}
    assert counts == COUNTS


@pytest.mark.parametrize("name", list_tasks())
def test_built_in_definition(name):
    task = get_task(name)
    assert task.name == task.source == name
    assert task.citation
    assert Task.from_dict(task.to_dict()) == task
    label_names = task.label_names or task.class_names
    if label_names is None:  # they are found in the data
        assert task.text_column
        return
    shuffled = list(reversed(label_names))
    assert match_class_names(task, shuffled) == {i: len(shuffled) - 1 - i for i in range(len(shuffled))}


def test_class_names_and_templates_are_the_original_ones(shared):
    prompts = json.loads((shared / "facts" / "prompts" / "openai_prompts.json").read_text())
    original = {"cifar10": "CIFAR10", "gtsrb": "GTSRB", "imagenet": "ImageNet", "sun397": "SUN397", "mnist": "MNIST"}
    original |= {"flowers102": "Flowers102", "oxford_pets": "OxfordPets", "pcam": "PatchCamelyon", "ucf101": "UCF101"}
    original |= {"rendered_sst2": "SST2", "caltech101": "Caltech101", "fgvc_aircraft": "FGVCAircraft"}
    for name, key in original.items():
        task = get_task(name)
        assert sorted(task.class_names) == sorted(prompts[key]["class_names"])
        assert sorted(task.templates) == sorted(prompts[key]["templates"])


def test_shifts_of_imagenet_have_the_original_classes(shared):
    subsets = json.loads((shared / "facts" / "prompts" / "imagenet_subsets.json").read_text())
    imagenet = get_task("imagenet")
    for name in ("imagenet_a", "imagenet_r"):
        task = get_task(name)
        assert task.class_names == tuple(imagenet.class_names[i] for i in subsets[name])
        assert task.label_names == tuple(imagenet.label_names[i] for i in subsets[name])
        assert task.templates == imagenet.templates
    groups = get_task("objectnet").class_groups
    assert groups == {
        name: tuple(imagenet.class_names[i] for i in members)
        for name, members in subsets["objectnet_to_imagenet"].items()
    }
    # The labels count the folders of the data set, three of which are called otherwise than their class.
    folders = {"Bath towel": "full_sized_towel", "Dishrag or hand towel": "hand_towel_or_rag", "T-shirt": "t-shirt"}
    names = get_task("objectnet").class_names
    assert names == tuple(sorted(names, key=lambda name: folders.get(name, name.lower().replace(" ", "_"))))


def test_user_task_is_a_file_and_its_paths_are_relative_to_it(tmp_path):
    def read(**keys):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MINIMAL | keys))
        return get_task(str(tmp_path / "mine.yaml"))

    files = {"train": "a.parquet", "test": ["b.parquet", "hf://datasets/me/x/c.parquet"]}
    task = read(dataset="parquet", data_files=files)
    assert task.data_files == {"train": f"{tmp_path}/a.parquet", "test": [f"{tmp_path}/b.parquet", files["test"][1]]}
    assert task.splits.validation == "auto"
    assert read(dataset="me/data", data_files={"test": "test/*.tar"}).data_files == {"test": "test/*.tar"}
    assert read(dataset="./here").dataset == str(tmp_path / "here")
    assert read(name=123).name == "123"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"templates": ["no place"]}, "exactly one {}"),
        ({"templates": ["{} and {}"]}, "exactly one {}"),
        ({"templates": []}, "needs the key 'templates'"),
        ({"name": "My Task"}, "lower-case"),
        ({"class_names": ["a", "a"]}, "'a' twice"),
        ({"class_names": ["a", "b"], "label_names": ["x"]}, "1 `label_names` but 2 `class_names`"),
        ({"image_colum": "img"}, "Unknown key 'image_colum'.*Did you mean 'image_column'"),
        ({"splits": {"validation": "test"}}, "the split 'test' for both validation and test"),
        ({"splits": {"test": "train"}}, "the split 'train' for both train and test"),
        ({"class_names": "cat"}, "`class_names` must be a list of strings"),
        ({"class_names": [True, False]}, "Put quotes around words like yes and no"),
        ({"data_files": "x.parquet"}, "`data_files` must map splits to files"),
        ({"class_split": {"half": 0}}, "Unknown key 'half' in `class_split`"),
        ({"class_split": {"seed": 0}}, "`class_split` needs the key 'part'"),
        ({"class_split": {"part": 2}}, "must be 0 or 1, got 2"),
        ({"class_split": {"part": True}}, "must be 0 or 1, got True"),
        ({"class_split": {"part": 0, "seed": -1}}, "non-negative integer, got -1"),
        ({"class_split": 0}, "`class_split` must be a mapping with the keys part, seed; got 0"),
        ({"class_split": {"part": 0}, "class_names": ["a", "b", "c"]}, "at least four classes.*there are 3"),
        (
            {"class_groups": {"a": ["x"]}, "class_names": ["a", "b"]},
            "keys of `class_groups` must be the `class_names`",
        ),
        ({"class_groups": {"a": ["x", "y"], "b": ["y"]}}, "'y' twice"),
        ({"class_groups": {"a": []}}, "`class_groups` must map each class to its names"),
        ({"class_groups": ["a"]}, "`class_groups` must map each class to its names"),
        ({"class_groups": {"a": "x"}}, "`class_groups` must be a list of strings"),
        ({"class_subset": [0, 1]}, "Name that task with `extends`"),
        (
            {"extends": "mnist", "class_subset": [10]},
            "10 is neither.*'mnist', which has 10 class names",
        ),
        ({"extends": "mnist", "class_subset": "01"}, "`class_subset` must be a list"),
        ({"extends": "mnist", "class_subset": ["1", 1]}, "'1' twice"),
        (
            {"extends": "mnist", "class_groups": {"a": ["ten"]}},
            "'ten' is neither.*which has 10 class names",
        ),
        ({"splits": {"valid": "x"}}, "Unknown key 'valid' in `splits`.*Did you mean"),
    ],
)
def test_bad_definition(change, message):
    with pytest.raises(InputError, match=message):
        Task.from_dict(MINIMAL | change)


def test_unknown_task_suggests_the_nearest():
    with pytest.raises(InputError, match="'minst' is unknown. Did you mean 'mnist'"):
        get_task("minst")
    with pytest.raises(InputError, match="cannot be read"):
        get_task("nowhere/task.yaml")


def test_halves_are_those_of_the_permutation():
    assert ClassSplit(part=0).classes(10) == [2, 3, 4, 6, 7]  # default_rng(0).permutation(10): 4 6 2 7 3 5 9 0 8 1
    assert ClassSplit(part=1).classes(10) == [0, 1, 5, 8, 9]
    order = np.random.default_rng(7).permutation(7)
    assert ClassSplit(part=0, seed=7).classes(7) == sorted(order[:3])
    assert ClassSplit(part=1, seed=7).classes(7) == sorted(order[3:])
    assert ClassSplit(part=0, seed=1).classes(10) != ClassSplit(part=0).classes(10)


def test_a_task_extends_another():
    task = get_task({"extends": "mnist", "class_split": {"part": 1}})
    mnist = get_task("mnist")
    expected = mnist.to_dict() | {"name": "mnist-part-1", "class_split": {"part": 1, "seed": 0}}
    assert task == Task.from_dict(expected) == get_task("{extends: mnist, class_split: {part: 1}}")
    assert task.to_dict() == expected
    assert Task.from_dict(yaml.safe_load(yaml.safe_dump(task.to_dict()))) == task
    assert task.source is None
    assert get_task({"extends": "mnist", "class_split": {"part": 1, "seed": 3}}).name == "mnist-part-1-seed-3"
    assert get_task({"extends": "mnist", "name": "mine", "templates": ["{}"]}).dataset == mnist.dataset
    with pytest.raises(InputError, match="needs the key 'name'"):
        get_task({"extends": "mnist", "templates": ["{}"]})
    with pytest.raises(InputError, match="'minst' is unknown. Did you mean 'mnist'"):
        get_task({"extends": "minst", "class_split": {"part": 0}})
    with pytest.raises(InputError, match="Unknown key 'extend'.*Did you mean 'extends'"):
        get_task({"extend": "mnist"})
    with pytest.raises(InputError, match="cannot be read"):
        get_task("{extends: mnist")


def test_a_file_extends_a_file_beside_it(tmp_path, monkeypatch):
    def write(path, **definition):
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(definition))

    write(
        tmp_path / "all" / "base.yaml", **MINIMAL | {"dataset": "parquet", "data_files": {"train": "a", "test": "b"}}
    )
    write(tmp_path / "parts" / "half.yaml", extends="../all/base.yaml", class_split={"part": 0})
    write(tmp_path / "parts" / "other.yaml", extends="half.yaml", name="other", data_files={"test": "c"})
    half, other = get_task(tmp_path / "parts" / "half.yaml"), get_task(tmp_path / "parts" / "other.yaml")
    assert (half.name, half.class_split) == ("t-part-0", ClassSplit(part=0))
    assert half.source == str(tmp_path / "parts" / "half.yaml")
    assert half.data_files == {"train": f"{tmp_path}/all/a", "test": f"{tmp_path}/all/b"}
    assert other.data_files == {"test": f"{tmp_path}/parts/c"}
    assert other.class_split == half.class_split
    monkeypatch.chdir(tmp_path)
    assert get_task({"extends": "parts/half.yaml", "name": "x"}).data_files == half.data_files
    write(tmp_path / "a.yaml", extends="b.yaml")
    write(tmp_path / "b.yaml", extends="a.yaml")
    with pytest.raises(InputError, match="a.yaml extends itself"):
        get_task("a.yaml")


def test_classes_of_another_task_by_name_or_index():
    odd = get_task({"extends": "cifar10", "name": "odd", "class_subset": ["cat", 0, "truck"]})
    assert odd.class_names == ("cat", "airplane", "truck")
    fish = get_task({"extends": "imagenet", "name": "fish", "class_subset": ["goldfish, Carassius auratus", "tench"]})
    assert fish.class_names == ("goldfish", "tench")
    assert fish.label_names == ("goldfish, Carassius auratus", "tench, Tinca tinca")
    kinds = get_task({"extends": "imagenet", "name": "kinds", "class_groups": {"fish": [1, "tench"], "bird": ["hen"]}})
    assert kinds.class_names == ("fish", "bird")
    assert kinds.class_groups == {"fish": ("goldfish", "tench"), "bird": ("hen",)}
    assert kinds.label_names is None
    for task in (odd, fish, kinds):
        assert Task.from_dict(yaml.safe_load(yaml.safe_dump(task.to_dict()))) == task
