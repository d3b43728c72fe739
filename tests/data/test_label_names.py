"""Whose label is it? Every picture keeps its class, however files number, spell, split or type their labels."""

import shutil

import pytest
from datasets import ClassLabel, Dataset, Features, Image, LargeList, List, Value

from digits import (
    DIGITS,
    IMAGES,
    NAMES,
    REVERSED,
    TEMPLATES,
    WORDS,
    count_correct,
    digit_task,
    evaluate,
    write_csv,
    write_parquet,
)
from drawn_tasks import encode
from hf_paint import InputError, Task
from hf_paint.data.splits import load_splits


FIRST, SECOND = range(20), range(20, 40)
INTEGERS = list(range(10))


def named(path, names, rows=range(40)):
    """A parquet file whose ClassLabel has these names."""
    rows = [row for row in rows if NAMES[DIGITS[row]] in names]
    labels = {digit: names.index(name) for digit, name in enumerate(NAMES) if name in names}
    return write_parquet(path, labels, ClassLabel(names=names), rows=rows)


def accuracy(digits=range(10)):
    total, correct = count_correct(digits)
    return total, round(100 * correct / total, 2)


def test_each_file_counts_its_labels_through_its_own_names(tmp_path, capsys):
    few = ["7", "2", "5"]
    first, second = named(tmp_path / "1.parquet", NAMES, FIRST), named(tmp_path / "2.parquet", REVERSED, SECOND)
    part, others = named(tmp_path / "3.parquet", few), named(tmp_path / "4.parquet", sorted({*NAMES} - {*few})[::-1])
    upper = write_parquet(tmp_path / "5.parquet", INTEGERS[::-1], ClassLabel(names=WORDS[::-1]), rows=SECOND)
    lower = write_parquet(tmp_path / "6.parquet", INTEGERS, ClassLabel(names=[w.upper() for w in WORDS]), rows=FIRST)
    (tmp_path / "folder").mkdir()
    shutil.copy(first, tmp_path / "folder" / "test-0.parquet")
    shutil.copy(second, tmp_path / "folder" / "test-1.parquet")
    splits = {"train": None, "validation": None}
    directory = {"dataset": str(tmp_path / "folder"), "templates": TEMPLATES, "splits": splits}
    both = {"train": first, "test": second}
    trained = {"train": "train", "validation": None, "test": "test"}
    code, found, error = evaluate(
        tmp_path,
        capsys,
        order=digit_task([first, second]),
        listed=digit_task([second, first], class_names=NAMES),
        streamed=digit_task([first, second], streaming=True),
        directory=directory,
        number=digit_task([part, others]),
        part=digit_task([part], class_names=NAMES),
        spelled=digit_task([lower, upper], class_names=NAMES, label_names=WORDS),
        splits=digit_task(both, splits=trained),
    )
    assert code == 0, error
    assert found.pop("part") == accuracy([2, 5, 7])
    assert found.pop("splits") == (20, accuracy()[1])
    assert found == dict.fromkeys(found, accuracy())
    assert len(found) == 6


def test_splits_have_the_same_classes(tmp_path):
    files = {
        "train": named(tmp_path / "1.parquet", ["4", "3", "2"]),
        "test": named(tmp_path / "2.parquet", ["1", "2"]),
    }
    for streaming in (False, True):
        keys = {"splits": {"validation": None}, "streaming": streaming}
        splits = load_splits(Task.from_dict({"name": "t"} | digit_task(files, **keys)))
        assert {split.class_names for split in splits.values()} == {("4", "3", "2", "1")}
        for name, digits in (("train", (2, 3, 4)), ("test", (1, 2))):
            found = [splits[name].class_names[splits[name].class_of(row)] for row in splits[name].rows]
            assert found == [str(digit) for digit in DIGITS if digit in digits]


def test_parts_of_files_with_other_names(tmp_path):
    files = {
        "train": named(tmp_path / "1.parquet", NAMES, FIRST),
        "test": named(tmp_path / "2.parquet", REVERSED, SECOND),
    }
    for source, rows in {
        "train+test": range(40),
        "test[:5]": range(20, 25),
        "train[15:]+test[-2:]": [*range(15, 20), 38, 39],
    }.items():
        splits = {"train": None, "validation": None, "test": source}
        split = load_splits(Task.from_dict({"name": "t"} | digit_task(files, splits=splits)))["test"]
        assert [int(split.class_names[label]) for label in split.labels()] == [DIGITS[row] for row in rows]
        assert len(set(split.row_ids.tolist())) == len(rows)


def test_labels_of_a_csv_file_are_text_if_they_are_names(tmp_path):
    for kind in ("csv", "imagefolder"):
        for labels, names, expected in [
            (["007", "7", "NA", "None"], ["7", "NA", "None", "007"], [3, 0, 1, 2]),
            (["1.10", "1.1", "1e3", "nan"], ["nan", "1e3", "1.1", "1.10"], [3, 2, 1, 0]),
            (["99999999999999999999", "1"], ["1", "99999999999999999999"], [1, 0]),
            (["001", "0", "01"], ["zero", "one"], [1, 0, 1]),
            (["2.0", "1.0"], ["1", "2"], [1, 0]),
        ]:
            folder = tmp_path / f"{kind}-{len(names)}-{labels[0]}"
            folder.mkdir()
            key = "image" if kind == "csv" else "file_name"
            lines = [f"{key},label"]
            for row, label in enumerate(labels):
                IMAGES[row].save(folder / f"{row}.png")
                lines.append(f"{folder / f'{row}.png' if kind == 'csv' else f'{row}.png'},{label}")
            (folder / "metadata.csv").write_text("\n".join(lines))
            task = {"dataset": kind, "data_files": {"test": str(folder / "metadata.csv")}, "templates": TEMPLATES}
            if kind == "imagefolder":
                task |= {"data_files": {"test": str(folder)}}
            keys = {"name": "t", "class_names": names, "splits": {"train": None, "validation": None}}
            assert load_splits(Task.from_dict(task | keys))["test"].labels().tolist() == expected


def test_images_of_a_stream_are_not_encoded_again(tmp_path):
    files = []
    for names in (NAMES, REVERSED):
        rows = {"image": [encode(IMAGES[3].resize((50, 40)), "JPEG")], "label": [names.index("3")]}
        features = Features({"image": Image(), "label": ClassLabel(names=names)})
        files.append(str(tmp_path / f"{names[0]}.parquet"))
        Dataset.from_dict(rows, features=features).to_parquet(files[-1])
    tasks = [Task.from_dict({"name": "t"} | digit_task(files, streaming=streaming)) for streaming in (False, True)]
    copied, streamed = ([row["image"].tobytes() for row in load_splits(task)["test"].rows] for task in tasks)
    assert copied == streamed == [copied[0]] * 2


def test_a_file_without_names_beside_files_that_differ(tmp_path):
    files = [named(tmp_path / "1.parquet", NAMES), named(tmp_path / "2.parquet", REVERSED)]
    files.append(write_parquet(tmp_path / "3.parquet", INTEGERS, Value("int64")))
    with pytest.raises(InputError, match="has class names in some files, but none in .*3.parquet"):
        load_splits(Task.from_dict({"name": "t"} | digit_task(files)))


def test_a_number_that_names_a_class_is_that_class(tmp_path, capsys):
    def integers(name, digits=range(10), dtype="int64", labels=INTEGERS):
        rows = [row for row in range(40) if DIGITS[row] in digits]
        return write_parquet(tmp_path / f"{name}.parquet", labels, Value(dtype), rows=rows)

    csv = write_csv(tmp_path / "t.csv", INTEGERS)
    padded = [f"{digit:03d}" for digit in INTEGERS]
    code, found, error = evaluate(
        tmp_path,
        capsys,
        listed=digit_task(integers("a"), class_names=REVERSED),
        labels=digit_task(integers("b", dtype="uint8"), class_names=WORDS[::-1], label_names=REVERSED),
        table=digit_task(csv, dataset="csv", class_names=REVERSED),
        decimals=digit_task(integers("c", dtype="float32"), class_names=REVERSED),
        padded=digit_task(
            write_csv(tmp_path / "p.csv", padded), dataset="csv", class_names=REVERSED, label_names=padded[::-1]
        ),
        positions=digit_task(integers("d"), class_names=WORDS),
        backwards=digit_task(integers("e", labels=INTEGERS[::-1]), class_names=WORDS[::-1]),
        counts=digit_task(integers("f", range(1, 5)), class_names=list("12345"), counting=True),
        words=digit_task(integers("g", range(1, 6)), class_names=WORDS[1:6], counting=True),
        shifted=digit_task(integers("h", range(1, 6), labels=range(-1, 9)), class_names=WORDS[1:6], counting=True),
        truth=digit_task(integers("i", (0, 1), "bool"), class_names=["1", "0"], label_names=["True", "false"]),
    )
    assert code == 0, error
    assert {name: found[name] for name in ("counts", "words", "shifted", "truth")} == {
        "counts": accuracy(range(1, 5)),
        "words": accuracy(range(1, 6)),
        "shifted": accuracy(range(1, 6)),
        "truth": accuracy((0, 1)),
    }
    assert {found[name] for name in found if found[name][0] == 40} == {accuracy()}
    assert len(found) == 11


@pytest.mark.parametrize(
    ("labels", "dtype", "keys", "message"),
    [
        ([0, 1], "int64", {"class_names": ["1", "2"]}, "the label 0, which matches none of its 2 classes"),
        ([2, 1], "int64", {"class_names": ["1", "one", "two"]}, "the label 2, which matches none"),
        ([0, 7], "int64", {"class_names": ["7", "007", "0"]}, "the label 7, which matches none"),
        (["001", "1"], "string", {"class_names": ["0", "1"]}, "the label '001', which matches none"),
        (["a b", "AB"], "string", {"class_names": ["a b", "ab"]}, "the label 'AB', which matches none"),
        (["0", "1"], "string", {"class_names": ["0", "-1"]}, "the label '1', which matches none"),
        (["15", "2"], "string", {"class_names": ["1.5", "2"]}, "the label '15', which matches none"),
        (["C++", "D"], "string", {"class_names": ["C", "D"]}, "the label 'C\\+\\+', which matches none"),
        (["दिन", "दान"], "string", {"class_names": ["दिन", "दीन"]}, "the label 'दान', which matches none"),
        (["ปา", "ป่า"], "string", {"class_names": ["ปา", "ป้า"]}, "the label 'ป่า', which matches none"),
        ([True, False], "bool", {"class_names": ["yes", "no"]}, "the label True, which matches none"),
        ([1, 2], "int64", {"class_names": ["one", "two", "three"], "counting": True}, "could be counts or positions"),
    ],
)
def test_a_label_that_is_no_name_is_refused(tmp_path, labels, dtype, keys, message):
    file = write_parquet(tmp_path / "t.parquet", labels, Value(dtype), rows=(0, 1))
    with pytest.raises(InputError, match=message):
        load_splits(Task.from_dict({"name": "t"} | digit_task(file, **keys)))


def test_spellings_of_one_word_are_one_class(tmp_path):
    labels = ["cafe\u0301", "ป่า", "दिन", "Sea-Green"]
    file = write_parquet(tmp_path / "t.parquet", labels, Value("string"), rows=range(4))
    names = ["दिन", "sea green", "ป่า", "caf\u00e9"]
    task = Task.from_dict({"name": "t"} | digit_task(file, class_names=names))
    assert load_splits(task)["test"].labels().tolist() == [3, 2, 0, 1]
    with pytest.raises(InputError, match="'caf\u00e9' twice"):
        Task.from_dict({"name": "t"} | digit_task(file, class_names=["cafe\u0301", "caf\u00e9"]))


SCALAR = Value("string")


@pytest.mark.parametrize(
    ("column", "values", "feature", "shown"),
    [
        ("label", [["1"], ["2"]], List(SCALAR), "label' of 'parquet' holds List(Value('string'))"),
        ("label", [[0, 1], [1, 0]], List(Value("int64")), "holds List(Value('int64'))"),
        ("label", [[0, 1], [1, 0]], LargeList(Value("int8")), "holds LargeList(Value('int8'))"),
        ("label", [[0], [1]], List(ClassLabel(names=["1", "2"])), "holds List(ClassLabel("),
        ("label", [{"a": "1"}, {"a": "2"}], {"a": SCALAR}, "holds {'a': Value('string')}"),
        ("label", [None, None], Value("null"), "holds Value('null')"),
        ("image", [[IMAGES[0]], [IMAGES[1]]], List(Image()), "image' of 'parquet' holds List(Image("),
        ("image", [["a.png"], ["b.png"]], List(SCALAR), "holds List(Value('string'))"),
        ("image", [1, 2], Value("int64"), "holds Value('int64')"),
    ],
)
def test_a_column_of_the_wrong_type_is_named(tmp_path, capsys, column, values, feature, shown):
    columns = {"image": IMAGES[:2], "label": ["1", "2"]} | {column: values}
    features = Features({"image": Image(), "label": SCALAR} | {column: feature})
    Dataset.from_dict(columns, features=features).to_parquet(str(tmp_path / "t.parquet"))
    for streaming in (False, True):
        task = digit_task(str(tmp_path / "t.parquet"), class_names=["1", "2"], streaming=streaming)
        code, found, error = evaluate(tmp_path, capsys, t=task)
        assert (code, found) == (2, {})
        assert [shown in line for line in error.splitlines() if line.startswith("hf-paint: The column '")] == [True]
