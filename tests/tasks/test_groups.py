"""Groups of tasks, and the labels of the data sets in the benchmarks of model merging."""

import json

import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Value

from drawn_tasks import write_task_yaml
from hf_paint import InputError, get_task, list_task_groups
from hf_paint.cli.main import main
from hf_paint.cli.recipe_keys import read_keys
from hf_paint.data.labels import match_class_names, read_classes
from hf_paint.tasks.registry import get_tasks


GROUPS = list_task_groups()


def table_of_the_benchmark(shared):
    """Number of tasks in a benchmark -> ids of its data sets, as the table of facts marks them with an x."""
    lines = (shared / "facts/benchmarks.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    ids = {row[0]: row[1].split(",")[0] for row in rows} | {"fer2013": "clip-benchmark/wds_fer2013"}
    return {number: [ids[row[0]] for row in rows if row[column]] for number, column in ((8, 3), (14, 4), (20, 5))}


def test_groups_are_the_benchmarks(shared):
    for number, ids in table_of_the_benchmark(shared).items():
        tasks = get_tasks(f"merging{number}")
        assert len(tasks) == number
        assert [task.dataset for task in tasks] == ids
    assert [len(GROUPS[group]) for group in ("paint9", "paint_supported5")] == [9, 5]
    assert not {*GROUPS["paint9"]} & {*GROUPS["paint_supported5"]}


def test_groups_stand_in_recipes_and_flags(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: me/clip\nstrategy: joint\npatching_tasks: merging8\n")
    (tmp_path / "merging8").mkdir()  # a built-in name stays one
    flags = ["--supported_tasks", "paint_supported5", "kmnist"]
    recipe = read_keys(str(tmp_path / "recipe.yaml"), flags).recipe
    names = {key: [task.name for task in get_tasks(recipe[key])] for key in ("patching_tasks", "supported_tasks")}
    assert names["patching_tasks"] == ["sun397", "cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd"]
    assert names["supported_tasks"] == ["imagenet", "cifar10", "cifar100", "stl10", "food101", "kmnist"]


def test_a_task_of_several_groups_is_taken_once():
    assert [task.name for task in get_tasks(["merging8", "merging14", "merging8"])] == [*GROUPS["merging14"]]
    assert [task.name for task in get_tasks(["mnist", "merging8", "dtd"])] == [
        "mnist", "sun397", "cars", "resisc45", "eurosat", "svhn", "gtsrb", "dtd",
    ]  # fmt: skip
    other = {"extends": "mnist", "name": "mnist", "templates": ["{}"]}
    assert [task.name for task in get_tasks(["merging8", other])][-3:] == ["mnist", "dtd", "mnist"]  # a run refuses it


def test_a_group_is_not_one_task():
    with pytest.raises(InputError, match=r"'merging8' is a group of 8 tasks, and one task is needed.*sun397, cars"):
        get_task("merging8")
    with pytest.raises(InputError, match=r"Task 'mergin8' is unknown. Did you mean 'merging8'\?"):
        get_tasks(["mergin8"])


def test_the_command_lists_groups(capsys):
    assert main(["tasks"]) == 0
    assert f"| merging8 | {', '.join(GROUPS['merging8'])} |" in capsys.readouterr().out
    assert main(["tasks", "paint_supported5"]) == 0
    rows = [line.split(" | ")[0].strip("| ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [*GROUPS["paint_supported5"]]
    assert main(["tasks", "merging8", "--yaml"]) == 2
    assert "--yaml needs one task" in capsys.readouterr().err


def test_the_command_shows_several_tasks_and_groups(capsys):
    assert main(["tasks", "mnist", "paint_supported5", "svhn"]) == 0
    first, table, last = capsys.readouterr().out.split("\n\n")
    assert [yaml.safe_load(text)["name"] for text in (first, last)] == ["mnist", "svhn"]
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]] == [*GROUPS["paint_supported5"]]
    for flag in ("--yaml", "--json", "--output=x.yaml"):
        assert main(["tasks", "mnist", "svhn", flag]) == 2
        assert "needs one task" in capsys.readouterr().err


def test_data_of_several_tasks_and_of_a_group_are_opened(capsys, tmp_path, monkeypatch):
    paths = [write_task_yaml(tmp_path, name, train=20, test=4) for name in ("first", "second")]
    assert main(["tasks", *paths]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("task:")] == [
        "task: first",
        "task: second",
    ]
    opened = []
    monkeypatch.setattr("hf_paint.cli.tasks._show_data", lambda name, parsed: opened.append(name))
    assert main(["tasks", "paint_supported5", "cifar10", "--data"]) == 0
    assert opened == [*GROUPS["paint_supported5"]]


def test_labels_of_the_data_sets_are_matched_by_name():
    flowers = get_task("flowers102")
    hub = ["ball moss", "pink-yellow dahlia?", "globe-flower", "colt's foot"]  # as the data set spells them
    found = [flowers.class_names[index] for index in match_class_names(flowers, hub).values()]
    assert found == ["air plant", "pink and yellow dahlia", "globe flower", "colt's foot"]
    pets = get_task("oxford_pets")
    hub = ["abyssinian", "american_bulldog", "american_pit_bull_terrier"]
    found = [pets.class_names[index] for index in match_class_names(pets, hub).values()]
    assert found == ["Abyssinian", "american bulldog", "american pit bull terrier"]
    videos = get_task("ucf101")
    found = [videos.class_names[index] for index in match_class_names(videos, ["YoYo", "HandstandPushups"]).values()]
    assert found == ["Yo Yo", "Hand Stand Pushups"]


def test_truth_values_of_pcam():
    rows = Dataset.from_dict({"label": [True, False]}, features=Features({"label": Value("bool")}))
    names, ids = read_classes(get_task("pcam"), rows)
    assert [names[ids.find(value)] for value in (False, True)] == [
        "lymph node",
        "lymph node containing metastatic tumor tissue",
    ]


@pytest.mark.parametrize("name", ["caltech101", "fer2013", "fgvc_aircraft"])
def test_labels_without_names_are_positions(name):
    """The archives hold integers, in the order of the lists that the archives were written with."""
    rows = Dataset.from_dict({"cls": [0, 1]}, features=Features({"cls": Value("int64")}))
    names, ids = read_classes(get_task(name), rows)
    assert [ids.find(index) for index in range(len(names))] == [*range(len(names))]
    assert ids.find(len(names)) is None


def test_positions_follow_the_lists_of_the_archives(shared):
    prompts = json.loads((shared / "facts/prompts/openai_prompts.json").read_text())
    assert get_task("fgvc_aircraft").class_names == tuple(prompts["FGVCAircraft"]["class_names"])
    synonyms = prompts["FacialEmotionRecognition2013"]["class_names"]
    assert get_task("fer2013").class_names == tuple(sorted(first for first, *_ in synonyms))
    # VTAB counts the folders of Caltech-101 in alphabetical order; some are called otherwise than their class.
    folders = {
        "off-center face": "faces",
        "centered face": "faces_easy",
        "leopard": "leopards",
        "motorbike": "motorbikes",
        "airplane": "airplanes",
        "background": "background_google",
        "side of a car": "car_side",
        "body of a cougar cat": "cougar_body",
        "face of a cougar cat": "cougar_face",
        "head of a  crocodile": "crocodile_head",
        "head of a flamingo": "flamingo_head",
        "snoopy (cartoon beagle)": "snoopy",
        "yin and yang symbol": "yin_yang",
    }
    names = get_task("caltech101").class_names
    assert names == tuple(sorted(names, key=lambda name: folders.get(name, name.replace(" ", "_"))))


def test_letters_and_characters_are_those_of_the_benchmark():
    rows = Dataset.from_dict(
        {"label": [0]}, features=Features({"label": ClassLabel(names=list("おきすつなはまやれを"))})
    )
    names, ids = read_classes(get_task("kmnist"), rows)
    assert [names[ids[index]] for index in range(10)] == list("おきすつなはまやれを")
    assert get_task("emnist_letters").class_names == tuple(map(chr, range(ord("A"), ord("Z") + 1)))
    assert get_task("emnist_letters").templates == ('a photo of the digit character: "{}".',)
