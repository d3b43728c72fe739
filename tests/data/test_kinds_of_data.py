"""Every kind of reference to the same pictures is the same task, with the same rows, classes and labels."""

import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from huggingface_hub import HfApi
from PIL import Image as PILImage
from transformers.utils import logging

from folders import draw_folder, several
from hf_paint import Task, corrupted, get_task
from hf_paint.data.content import fingerprint_content
from hf_paint.data.guesses import open_task
from hf_paint.data.splits import load_splits
from hf_paint.errors import InputError
from hf_paint.tasks.data_files import PICTURES, SPLIT_WORDS
from references import NAMES, WORDS, in_memory, pictures, rows, write_all


FILES = "textures zipped.zip one.parquet texts.parquet shards saved saved_dict list.csv list.tsv list.jsonl list.json"
MEMORY = ["Dataset", "Dataset of texts", "DatasetDict", "pairs", "pairs of paths"]


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    folder = tmp_path_factory.mktemp("references")
    return write_all(folder) | in_memory(folder)


@pytest.fixture(scope="module")
def expected():
    """Split -> [(pixels, label)], by the formula: numpy's permutation of each class cut at a fifth and two fifths."""
    order = np.random.default_rng(0).permutation(20)
    parts = {"test": order[:4], "validation": order[4:8], "train": order[8:]}
    decoded = [np.asarray(PILImage.open(io.BytesIO(data))) for data, _ in pictures()]
    chosen = {name: sorted(20 * label + row for label in range(3) for row in part) for name, part in parts.items()}
    return {name: [(decoded[row], row // 20) for row in own] for name, own in chosen.items()}


@pytest.fixture
def said(caplog):
    """What has been logged; messages that are logged once per run are logged again in each test."""
    logging.get_logger("hf_paint").warning_once.cache_clear()
    return lambda: " ".join(caplog.messages)


@pytest.mark.parametrize("kind", [*FILES.split(), "shard.tar", *MEMORY])
def test_every_reference_to_the_same_pictures_is_the_same_task(kind, references, expected):
    splits = load_splits(get_task(references[kind]))
    assert splits.keys() == expected.keys()
    for name, split in splits.items():
        assert split.class_names == WORDS
        assert split.labels().tolist() == [label for _, label in expected[name]]
        for image, (pixels, _) in zip(split.rows[split.task.image_column], expected[name], strict=True):
            assert np.array_equal(np.asarray(image), pixels)


def test_a_data_set_on_the_hub_is_the_same_task(hub, references):
    api = HfApi()
    api.create_repo("tester/textures", repo_type="dataset")
    file, where = references["one.parquet"], {"repo_id": "tester/textures", "repo_type": "dataset"}
    api.upload_file(path_or_fileobj=file, path_in_repo="train.parquet", **where)
    for name, split in load_splits(get_task("tester/textures")).items():
        other = load_splits(get_task(file), (name,))[name]
        assert fingerprint_content(split) == fingerprint_content(other)


def test_real_pictures_keep_the_frames_of_a_sign_together(shared):
    """GTSRB has its own test split, and several frames of each sign in its train split."""
    task = open_task(get_task({"dataset": str(shared / "data" / "gtsrb"), "group_column": "track"}))
    assert (task.splits.train, task.splits.validation, task.splits.test) == ("train", "stratified", "test")
    splits = load_splits(task)
    whole = np.array(Dataset.from_parquet(task.data_files["train"])["track"][:])
    tracks = {name: {*whole[splits[name].row_ids].tolist()} for name in ("train", "validation")}
    assert not tracks["train"] & tracks["validation"]
    assert len(splits["train"].rows) + len(splits["validation"].rows) == len(whole) == 6500


ENCODED = [{"bytes": data, "path": None} for data, _ in pictures()]


def with_column(name, values, feature):
    return rows().add_column(name, values, feature=feature)


CLASSES = ClassLabel(names=list(NAMES))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: with_column("mask", ENCODED, Image()).rename_column("image", "photo"),
            r"several that may hold the images: photo, mask; its columns are photo \(image\), label \(3 classes\)",
        ),
        (
            lambda: with_column("fine", [0] * 60, CLASSES).rename_column("label", "coarse"),
            "several that may hold the labels: coarse, fine.*as in {dataset: ..., label_column: coarse}",
        ),
        (lambda: rows().select_columns(["image"]), r"none that holds the labels; its columns are image \(image\)"),
        (lambda: rows().select_columns(["label"]), "none that holds the images"),
        (lambda: rows().cast_column("label", Value("int64")), "has no class names. List them as `class_names`"),
        (lambda: rows().select([]), "has no rows in its split 'train'"),
        (lambda: rows().to_iterable_dataset(), "got a IterableDataset"),
        (lambda: DatasetDict(a=rows(), b=rows()), "has the splits a, b, of which none is called train"),
        (
            lambda: [(PILImage.new("RGB", (8, 8)), label) for label in ("a", 1)],
            "all texts or all integers, got int, str",
        ),
        (lambda: [("nowhere.png", "a")], "lists the picture 'nowhere.png', but there is no such file"),
        (lambda: {"dataset": "memory", "name": "a", "templates": "a {}"}, "were in the memory of a Python program"),
    ],
)
def test_data_that_do_not_tell_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        load_splits(get_task(make()))


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"class_names": ["Polka-Dotted", "red", "T-shirt", "blue"]}, ("Polka-Dotted", "red", "T-shirt", "blue")),
        (
            {"class_names": {"polka_dotted": "covered in dots", "red": "red", "t-shirt": "a shirt"}},
            ("covered in dots", "red", "a shirt"),
        ),
    ],
)
def test_class_names_can_be_given(keys, names, expected):
    """A list may have more classes than the data."""
    splits = load_splits(get_task({"dataset": rows(), **keys}))
    assert splits["test"].class_names == names
    assert splits["test"].labels().tolist() == [label for _, label in expected["test"]]


def test_columns_can_be_given():
    data = with_column("other", list(range(30)) * 2, Value("int64")).rename_column("label", "kind")
    task = open_task(get_task({"dataset": data, "label_column": "other", "class_names": list(map(str, range(30)))}))
    assert task.label_column == "other"
    assert load_splits(get_task({"dataset": data, "group_column": "other"}))["train"].class_names == WORDS


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (several("Train/a/{}.png", 4, 1) | several("Train/b/{}.png", 4, 9), ("Train", "stratified", "stratified")),
        (
            {f"{split}/{name}/{i}.png": 1 for split in ("train", "val") for name in "ab" for i in range(4)},
            ("train", "val", "stratified"),
        ),
        (
            {f"{split}/{name}/{i}.png": 1 for split in ("train", "test") for name in "ab" for i in range(4)},
            ("train", "stratified", "test"),
        ),
        (
            {**several("train/a/{}.png", 4, 1), **several("train/b/{}.png", 4, 9), "test/1.png": 3},
            ("train", "stratified", "stratified"),
        ),
        ({"test/a/1.png": 1, "test/b/2.png": 9}, (None, None, "test")),
        (
            {f"{name}/{i}.png": 1 for name in ("auto", "guess", "stratified") for i in range(5)},
            ("train", "stratified", "stratified"),
        ),
    ],
)
def test_the_splits_of_a_folder(files, splits, tmp_path):
    task = open_task(get_task(draw_folder(tmp_path / "pictures", files)))
    assert (task.splits.train, task.splits.validation, task.splits.test) == splits


def test_a_split_without_labels_is_no_test_split():
    data = DatasetDict(train=rows(), dev=rows(), test=rows().map(lambda row: {"label": -1}, input_columns=["label"]))
    task = open_task(get_task(data))
    assert (task.splits.train, task.splits.validation, task.splits.test) == ("train", "dev", "stratified")


def test_what_is_drawn_is_said_once(said, tmp_path):
    files = several("a/{}.png", 20, 1) | several("b/{}.png", 2, 9)
    task = get_task(draw_folder(tmp_path / "shapes", files))
    for each in (task, task, *corrupted(task, names=["blur"], severities=[1, 2])):
        load_splits(each)
    assert said().count("shapes' has no validation or test split: 20 % of the 22 images in 'train' were drawn as") == 1
    assert said().count("1 of its 2 classes have no images in test ('b'); 1 of its 2") == 1


def test_paths_in_a_file_are_relative_to_it(tmp_path, monkeypatch):
    """Whatever the working directory is, also in a stream; a path from the working directory is found, too."""
    draw_folder(tmp_path / "data", {f"images/{i}.png": 1 for i in range(6)})
    text = "picture,kind\n" + "".join(f"images/{i}.png,{'NA' if i % 2 else 'x'}\n" for i in range(6))
    (tmp_path / "data" / "list.csv").write_text(text)
    (tmp_path / "elsewhere.csv").write_text(text)
    monkeypatch.chdir(tmp_path / "data")
    for file in ("../elsewhere.csv", str(tmp_path / "data" / "list.csv")):
        split = load_splits(get_task({"dataset": file, "splits": {"validation": None, "test": None}}))["train"]
        assert split.class_names == ("NA", "x")
        assert {image.size for image in split.rows["picture"]} == {(40, 36)}
    monkeypatch.chdir(tmp_path)
    keys = {"image_column": "picture", "label_column": "kind", "class_names": ["NA", "x"], "streaming": True}
    keys |= {"name": "stream", "templates": "a {}", "splits": {"validation": None, "test": None}}
    files = {"train": str(tmp_path / "data" / "list.csv")}
    stream = load_splits(get_task({"dataset": "csv", "data_files": files, **keys}), ("train",))["train"].rows
    assert {row["picture"].size for row in stream} == {(40, 36)}


def test_endings_and_words_are_those_of_datasets():
    from datasets.data_files import SPLIT_KEYWORDS

    from hf_paint.data.folder_files import PICTURES as OPENED

    assert {str(split): tuple(words) for split, words in SPLIT_KEYWORDS.items()} == SPLIT_WORDS
    assert PICTURES <= OPENED


@pytest.mark.skipif("multi_label" not in Task.kinds, reason="there is no kind of task for several labels per image")
@pytest.mark.parametrize(("feature", "labels"), [(CLASSES, [0, 2]), (Value("string"), ["t-shirt", "polka_dotted"])])
def test_lists_of_labels_make_a_multi_label_task(feature, labels):
    features = Features({"image": Image(), "labels": List(feature)})
    data = Dataset.from_dict({"image": ENCODED[:10], "labels": [labels] * 10}, features=features)
    task = open_task(get_task(data))
    assert task.to_dict()["multi_label"] is True
    assert {"polka dotted", "t-shirt"} <= set(task.class_names)


@pytest.mark.parametrize("place", ["signs.csv", "metadata.csv"])
def test_a_table_may_be_separated_by_semicolons(place, tmp_path):
    names = [f"{label}_{index}.png" for label in ("stop", "yield") for index in range(5)]
    draw_folder(tmp_path, dict.fromkeys(names, 3))
    rows = [f"{name};{name.partition('_')[0]};1,5" for name in names]
    (tmp_path / place).write_text("\n".join(["file_name;sign;weight", *rows]))
    found = load_splits(get_task(tmp_path / place if place == "signs.csv" else tmp_path))
    assert {split: len(own.rows) for split, own in found.items()} == {"train": 6, "validation": 2, "test": 2}
    assert found["train"].class_names == ("stop", "yield")
