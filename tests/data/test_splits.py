import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value

from drawn_tasks import draw_rows, write_task
from folders import draw_folder, several
from hf_paint import InputError, Task, get_task
from hf_paint.data.draws import split_train_validation
from hf_paint.data.splits import load_splits


def test_mnist_split_is_the_one_of_the_released_code():
    train, validation = split_train_validation(60_000)
    assert (train[0], len(train), len(validation)) == (36044, 55_000, 5_000)
    expected = torch.utils.data.random_split(
        range(60_000), [55_000, 5_000], generator=torch.Generator().manual_seed(0)
    )
    assert train.tolist() == list(expected[0].indices)
    assert validation.tolist() == list(expected[1].indices)


def test_groups_stay_on_one_side():
    groups = [row // 7 for row in range(1000)]
    train, validation = split_train_validation(1000, groups)
    assert sorted([*train, *validation]) == list(range(1000))
    assert not {groups[i] for i in train} & {groups[i] for i in validation}
    assert 100 <= len(validation) < 107


def test_auto_split_of_a_task(task):
    splits = load_splits(task)
    assert {name: len(split.rows) for name, split in splits.items()} == {"train": 72, "validation": 8, "test": 40}
    whole = Dataset.from_parquet(task.data_files["train"])["label"][:]
    train, validation = split_train_validation(80)
    assert splits["train"].labels().tolist() == [whole[i] for i in train]
    assert splits["validation"].labels().tolist() == [whole[i] for i in validation]


def test_validation_null_trains_on_all_rows(tmp_path):
    splits = load_splits(write_task(tmp_path, splits={"validation": None}))
    assert {name: len(split.rows) for name, split in splits.items()} == {"train": 80, "test": 40}


def test_whole_train_split_as_validation(tmp_path):
    splits = load_splits(write_task(tmp_path, splits={"train": None, "validation": "train"}))
    assert {name: len(split.rows) for name, split in splits.items()} == {"validation": 80, "test": 40}


def test_labels_are_matched_by_name(tmp_path):
    task = write_task(tmp_path, class_names=["Grey", "BLUE!", "green", "red"])
    split = load_splits(task, ("test",))["test"]
    original = Dataset.from_parquet(task.data_files["test"])["label"][:]
    assert split.labels().tolist() == [3 - label for label in original]


def test_label_names_translate(tmp_path):
    names = {"class_names": ["sky", "blood"], "label_names": ["blue", "red"]}
    split = load_splits(write_task(tmp_path, names=("red", "blue"), **names), ("test",))["test"]
    assert split.class_names == ("sky", "blood")
    assert split.class_ids == {0: 1, 1: 0}


def test_string_labels(tmp_path):
    rows = draw_rows(6, 0)
    rows["label"] = ["Red", "blue", "red", "green", "grey", "blue"]
    features = Features({"image": Image(), "label": Value("string"), "track": Value("int64")})
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "t.parquet"))
    task = local_task(tmp_path, class_names=["red", "green", "blue", "grey"])
    assert load_splits(task, ("test",))["test"].labels().tolist() == [0, 2, 0, 1, 3, 2]


def test_names_that_differ_in_punctuation_alone_are_told_apart(tmp_path):
    rows = draw_rows(4, 0) | {"label": ["C", "C++", "C#", "d"]}
    features = Features({"image": Image(), "label": Value("string"), "track": Value("int64")})
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "t.parquet"))
    task = local_task(tmp_path, class_names=["C#", "C++", "C", "D"])
    assert load_splits(task, ("test",))["test"].labels().tolist() == [2, 1, 0, 3]
    names = ("+", "-", "C++", "C#")
    task = write_task(tmp_path / "signs", names=names, class_names=list(reversed(names)))
    assert load_splits(task, ("test",))["test"].class_ids == {0: 3, 1: 2, 2: 1, 3: 0}
    with pytest.raises(InputError, match="2 of the 3 classes of 'parquet' have no matching class name.*'C'"):
        load_splits(write_task(tmp_path / "bad", names=("C", "c", "x"), class_names=["C+", "y", "x"]), ("test",))


def test_image_folder(tmp_path):
    for split in ("train", "test"):
        for name, image in zip(("red", "blue"), draw_rows(2, 0)["image"], strict=True):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            image.save(tmp_path / "data" / split / name / "0.png")
    definition = {"name": "folder", "dataset": "imagefolder", "data_dir": str(tmp_path / "data"), "templates": ["{}"]}
    splits = load_splits(Task.from_dict(definition | {"splits": {"validation": None}}))
    assert splits["test"].class_names == ("blue", "red")
    assert splits["test"].labels().tolist() == [0, 1]


def local_task(folder, **keys):
    files = {"test": str(folder / "t.parquet")}
    definition = {"name": "t", "dataset": "parquet", "data_files": files, "templates": ["a {}"]}
    return Task.from_dict(definition | {"splits": {"train": None, "validation": None}} | keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image_column": "img"}, "'parquet' has no column 'img'; its columns are image, label, track."),
        ({"label_column": "lable"}, "no column 'lable'.*Did you mean 'label'"),
        ({"class_names": ["red", "green", "blue"]}, "lists 3 classes but 'parquet' has 4"),
        (
            {"class_names": ["red", "green", "blue", "gray"]},
            "1 of the 4 classes of 'parquet' have no matching class name.*'grey'",
        ),
        ({"splits": {"test": "tset"}}, "no files for the split 'tset'"),
    ],
)
def test_bad_input_is_named(tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        load_splits(write_task(tmp_path, **keys))


def test_empty_split(tmp_path):
    with pytest.raises(InputError, match="The split 'test' of 'parquet' .task 'colours'. is empty"):
        load_splits(write_task(tmp_path, test=0), ("test",))


def test_missing_file_and_missing_data_set(tmp_path):
    with pytest.raises(InputError, match="cannot be loaded"):
        load_splits(local_task(tmp_path))
    with pytest.raises(InputError, match="'nobody/nothing'.*cannot be loaded"):
        load_splits(Task.from_dict({"name": "t", "dataset": "nobody/nothing", "templates": ["{}"]}))


def test_a_label_that_is_no_class(tmp_path):
    rows = draw_rows(4, 0)
    features = Features({"image": Image(), "label": Value("int64"), "track": Value("int64")})
    Dataset.from_dict(rows | {"label": [0, 1, 9, 0]}, features=features).to_parquet(str(tmp_path / "t.parquet"))
    with pytest.raises(InputError, match="the label 9, which matches none of its 2 classes"):
        load_splits(local_task(tmp_path, class_names=["red", "blue"]), ("test",))
    with pytest.raises(InputError, match="has no class names. List them as `class_names`"):
        load_splits(local_task(tmp_path), ("test",))


@pytest.mark.parametrize(("kind", "labels"), [("int64", [0, None, 1, None]), ("int64", [0, -1, 1, -1])])
def test_labels_that_are_missing_are_counted(kind, labels, tmp_path):
    rows = draw_rows(4, 0)
    features = Features({"image": Image(), "label": Value(kind), "track": Value("int64")})
    Dataset.from_dict(rows | {"label": labels}, features=features).to_parquet(str(tmp_path / "t.parquet"))
    with pytest.raises(InputError, match="2 of the 4 test rows .* have no label in 'label', the first is row 1"):
        load_splits(local_task(tmp_path, class_names=["red", "blue"]), ("test",))


def test_an_empty_field_of_a_table_is_no_label(tmp_path):
    files = several("{}.png", 6, 0)
    draw_folder(tmp_path, files)
    lines = [f"{name},{'' if name == '2.png' else 'cat' if name < '3' else 'dog'}" for name in files]
    (tmp_path / "labels.csv").write_text("\n".join(["picture,kind", *lines]))
    with pytest.raises(InputError, match=r"have no label in 'kind', the first is row 2 \('.*2.png'\). Fill them in"):
        load_splits(get_task(tmp_path / "labels.csv"), ("train",))


def test_stream_gives_the_same_rows(tmp_path):
    task = write_task(tmp_path, splits={"validation": None})
    stream = load_splits(Task.from_dict(task.to_dict() | {"streaming": True}), ("test",))["test"]
    labels = [stream.class_id(row["label"]) for row in stream.rows]
    assert labels == load_splits(task, ("test",))["test"].labels().tolist()


def test_stream_without_a_known_length_cannot_draw_a_split(tmp_path):
    task = Task.from_dict(write_task(tmp_path).to_dict() | {"streaming": True})
    with pytest.raises(InputError, match="does not report the number of rows"):
        load_splits(task, ("train",))


def test_streamed_sides_are_those_of_the_rows_over_several_shards(tmp_path, monkeypatch):
    """Six shards of twenty rows: train and validation of the stream share no row, whatever order they are read in."""
    import hf_paint.data.splits as data

    whole = Dataset.from_parquet(write_task(tmp_path, train=120).data_files["train"])
    paths = []
    for shard in range(6):
        rows = whole.select(range(20 * shard, 20 * (shard + 1)))
        paths.append(str(tmp_path / f"shard-{shard}.parquet"))
        rows.to_parquet(paths[-1])
    definition = {"name": "t", "dataset": "parquet", "templates": ["{}"], "data_files": {"train": paths}}
    definition["splits"] = {"test": None}
    monkeypatch.setattr(data, "stream_length", lambda task, source: 120)
    streamed = load_splits(Task.from_dict(definition | {"streaming": True}))
    copied = load_splits(Task.from_dict(definition))
    for name in ("train", "validation"):
        seen = [row["image"].tobytes() for row in streamed[name].rows]
        assert sorted(seen) == sorted(image.tobytes() for image in copied[name].rows["image"])
    assert streamed["train"].fingerprint != streamed["validation"].fingerprint


def test_class_label_feature_is_enough(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b", "c", "d"]), "track": Value("int64")})
    Dataset.from_dict(draw_rows(5, 0), features=features).to_parquet(str(tmp_path / "t.parquet"))
    split = load_splits(local_task(tmp_path), ("test",))["test"]
    assert split.class_names == ("a", "b", "c", "d")
    assert split.labels().dtype == np.int64


PART_0, PART_1 = (["red", "blue"], ["green", "grey"])  # np.random.default_rng(0).permutation(4) is 2, 0, 1, 3


def halves(task, **keys):
    definition = task.to_dict() | keys
    return [load_splits(Task.from_dict(definition | {"class_split": {"part": part}})) for part in (0, 1)]


def bytes_of(split):
    return [row["image"].tobytes() for row in split.rows]


@pytest.mark.parametrize("class_names", [None, ["grey", "blue", "green", "red"]])
def test_halves_are_disjoint_and_complete_on_every_split(tmp_path, class_names):
    task = write_task(tmp_path, class_names=class_names)
    names = PART_0, PART_1
    if class_names:  # the permutation is one of the class names of the task, which are in another order here
        names = ["grey", "green"], ["blue", "red"]
    whole, parts = load_splits(task), halves(task)
    for name in ("train", "validation", "test"):
        split = whole[name]
        label_names = [split.class_names[i] for i in split.labels()]
        rows = list(zip(bytes_of(split), label_names, strict=True))
        for part, wanted in zip(parts, names, strict=True):
            part = part[name]
            assert part.class_names == tuple(wanted)
            found = list(zip(bytes_of(part), [part.class_names[i] for i in part.labels()], strict=True))
            assert found == [row for row in rows if row[1] in wanted]
        assert len({split.fingerprint, parts[0][name].fingerprint, parts[1][name].fingerprint}) == 3
        assert parts[0][name].fingerprint == halves(task)[0][name].fingerprint


def test_a_half_of_string_labels_matches_them_among_all_classes(tmp_path):
    rows = draw_rows(6, 0) | {"label": ["Red", "blue", "red", "green", "grey", "blue"]}
    features = Features({"image": Image(), "label": Value("string"), "track": Value("int64")})
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "t.parquet"))
    keys = {"class_names": ["red", "green", "blue", "grey"], "class_split": {"part": 0}}
    assert load_splits(local_task(tmp_path, **keys), ("test",))["test"].labels().tolist() == [0, 1, 0, 1]
    keys["class_names"][1] = "violet"
    with pytest.raises(InputError, match="the label 'green', which matches none of its 4 classes"):
        load_splits(local_task(tmp_path, **keys), ("test",))


def test_a_half_of_a_stream_has_the_same_rows(tmp_path, monkeypatch):
    import hf_paint.data.splits as data

    monkeypatch.setattr(data, "stream_length", lambda task, source: 80)
    task = write_task(tmp_path)
    for streamed, copied in zip(halves(task, streaming=True), halves(task), strict=True):
        for name in ("train", "validation", "test"):
            assert sorted(bytes_of(streamed[name])) == sorted(bytes_of(copied[name]))
            labels = [streamed[name].class_id(row["label"]) for row in streamed[name].rows]
            assert sorted(labels) == sorted(copied[name].labels().tolist())
    first, second = halves(task, streaming=True)
    assert first["test"].fingerprint != second["test"].fingerprint


def test_a_half_without_rows(tmp_path):
    rows = draw_rows(4, 0) | {"label": [1, 3, 3, 1]}
    features = Features({"image": Image(), "label": Value("int64"), "track": Value("int64")})
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "t.parquet"))
    task = local_task(tmp_path, class_names=["red", "green", "blue", "grey"], class_split={"part": 0})
    with pytest.raises(InputError, match="The test split of task 't' is empty: no rows of"):
        load_splits(task, ("test",))


def test_three_classes_have_no_halves(tmp_path):
    task = write_task(tmp_path, names=("red", "green", "blue"), class_split={"part": 0})
    with pytest.raises(InputError, match="needs at least four classes, two in each half; there are 3"):
        load_splits(task, ("test",))
