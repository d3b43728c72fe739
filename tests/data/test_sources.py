"""Photos with written words: folders, columns and the built-in tasks."""

import numpy as np
import pytest
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image

from drawn_tasks import draw_rows, write_task_yaml
from hf_paint import InputError, evaluate_tasks, get_task
from hf_paint.cli.main import main
from hf_paint.data.images import decode
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.models.towers import image_tower


ODD = {
    "label=dog_text=cat.png": ("dog", "cat"),
    "label=st. bernard_text=ice cream.JPG": ("st. bernard", "ice cream"),
    "label=coffee_mug_text=red_car.jpeg": ("coffee_mug", "red_car"),
    "label=a=b_text=c=d.png": ("a=b", "c=d"),
    "label= cat _text=dog.png": ("cat", "dog"),
    "label=cafe\u0301_text=text.webp": ("caf\u00e9", "text"),
}
BAD = ["dog.png", "label=dog.png", "label=dog_text=.png", "label=_text=cat.png", "label=a_text=b_text=c.png", "x.txt"]


def write_photos(folder, names):
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        kind = "JPEG" if name.lower().endswith(("jpg", "jpeg")) else "PNG"
        Image.new("RGB", (40, 36), (10 * index, 90, 90)).save(folder / name, kind)


def folder_task(folder, **keys):
    definition = {"name": "photos", "dataset": "typographic_folder", "data_dir": str(folder)}
    return get_task(definition | {"templates": ["a photo of a {}."]} | keys)


def test_a_folder_with_odd_names(tmp_path):
    write_photos(tmp_path / "photos", ODD)
    (tmp_path / "photos" / ".DS_Store").write_text("hidden")
    (tmp_path / "photos" / "folder").mkdir()
    split = load_splits(folder_task(tmp_path / "photos"))["test"]
    candidates = sorted({word for pair in ODD.values() for word in pair})
    assert split.class_names == tuple(candidates)
    labels = split.labels()
    pairs = [(candidates[i], candidates[j]) for i, j in zip(labels, split.written(labels), strict=True)]
    assert pairs == [ODD[name] for name in sorted(ODD)]
    colours = [decode(split, row).convert("RGB").getpixel((5, 5))[0] for row in range(len(ODD))]
    expected = [10 * list(ODD).index(name) for name in sorted(ODD)]
    assert np.abs(np.array(colours) - expected).max() <= 2  # JPEG


def test_bad_names_are_reported_and_refused_or_skipped(tmp_path, caplog):
    write_photos(tmp_path, ["label=dog_text=cat.png"])
    for name in BAD:
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="6 files .* 'dog.png'.* and 1 more. Rename them, or set `bad_rows: skip`"):
        load_splits(folder_task(tmp_path))
    with caplog.at_level("WARNING"):
        split = load_splits(folder_task(tmp_path, bad_rows="skip"))["test"]
    assert len(split.rows) == 1
    assert "'label=a_text=b_text=c.png'" in caplog.text
    with pytest.raises(InputError, match="`refuse` or `skip`, got 'ignore'"):
        folder_task(tmp_path, bad_rows="ignore")


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match="contains no photo"):
        load_splits(folder_task(tmp_path))
    with pytest.raises(InputError, match="`data_dir` of task 'photos' must be a folder"):
        load_splits(folder_task(tmp_path / "none"))
    with pytest.raises(InputError, match="only the split 'test', but task 'photos' uses 'train'"):
        load_splits(folder_task(tmp_path, splits={}))


def test_a_photo_that_changes_is_not_taken_from_the_cache(tmp_path):
    names = ["label=dog_text=cat.png"]
    write_photos(tmp_path, names)
    before = load_splits(folder_task(tmp_path))["test"].fingerprint
    assert load_splits(folder_task(tmp_path))["test"].fingerprint == before
    Image.new("RGB", (50, 50), "blue").save(tmp_path / names[0])
    assert load_splits(folder_task(tmp_path))["test"].fingerprint != before


def test_the_command_prints_attack_success_where_there_are_attacks(tmp_path, model_folder, capsys):
    write_photos(tmp_path / "photos", ["label=dog_text=cat.png", "label=cat_text=dog.png"])
    plain = write_task_yaml(tmp_path / "data")
    photos = "{name: photos, dataset: typographic_folder, data_dir: %s, templates: ['{}']}" % (tmp_path / "photos")
    assert main(["evaluate", model_folder, "--tasks", plain, photos, "--use_cpu"]) == 0
    assert "attack success" in capsys.readouterr().out
    assert main(["evaluate", model_folder, "--tasks", plain, "--use_cpu"]) == 0
    assert "attack success" not in capsys.readouterr().out


def test_photos_are_evaluated_and_a_word_that_is_the_label_is_no_attack(tmp_path, model, processor):
    write_photos(tmp_path, ["label=dog_text=cat.png", "label=cat_text=dog.png", "label=cow_text=cow.png"])
    (result,) = evaluate_tasks(model, [folder_task(tmp_path)], processor=processor)
    prepared = prepare_task(folder_task(tmp_path), model, processor, splits=("test",), cache_dir=tmp_path / "cache")
    assert prepared.class_names == ("cat", "cow", "dog")
    predictions = Evaluator(Accelerator(cpu=True)).predict(image_tower(model), prepared, "test")
    attacked = [int(guess == word) for guess, word in zip(predictions.predicted, (2, 1, 0), strict=True)]
    attacked[1] = 0  # the cow is a cow
    assert predictions.labels.tolist() == [0, 1, 2]
    assert result.attack_success == sum(attacked)
    assert result.correct == sum(
        int(guess == label) for guess, label in zip(predictions.predicted, (0, 1, 2), strict=True)
    )


def test_splits_with_other_words_need_the_candidates_of_all(tmp_path, model, processor):
    """Without `class_names` each split would have its own candidates, but all splits share one head."""
    words, files = {"validation": "cow", "test": "ape"}, {}
    for split, word in words.items():
        files[split] = str(tmp_path / f"{split}.parquet")
        rows = {"image": draw_rows(2, 0)["image"], "label": ["dog", "cat"], "text": [word, word]}
        Dataset.from_dict(rows).to_parquet(files[split])
    keys = {"name": "t", "dataset": "parquet", "data_files": files, "text_column": "text", "templates": ["{}"]}
    keys |= {"splits": {"train": None, "validation": "validation", "test": "test"}}
    with pytest.raises(InputError, match="splits validation, test of task 't' do not have the same classes.*class_na"):
        prepare_task(get_task(keys), model, processor, cache_dir=tmp_path)
    named = get_task(keys | {"class_names": ["ape", "cat", "cow", "dog"]})
    prepared = prepare_task(named, model, processor, cache_dir=tmp_path)
    assert prepared.images["validation"].written.tolist() == [2, 2]
    assert prepared.images["test"].labels.tolist() == [3, 1]
    assert prepared.images["test"].written.tolist() == [0, 0]


@pytest.mark.parametrize("class_names", [None, ["dog", "cat", "cow"]])
def test_words_in_a_column_and_rows_that_are_wanted(tmp_path, class_names):
    rows = {"image": draw_rows(4, 0)["image"], "object": ["dog", "dog", "cat", "cow"]}
    rows |= {"word": ["cat", "cow", "dog", "cat"], "type": ["real", "clean", "real", "real"]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    keys = {"label_column": "object", "text_column": "word", "where": {"type": "real"}, "class_names": class_names}
    keys |= {"name": "t", "dataset": "parquet", "data_files": {"test": str(tmp_path / "rows.parquet")}}
    keys |= {"splits": {"train": None, "validation": None}, "templates": ["{}"]}
    split = load_splits(get_task(keys))["test"]
    assert split.class_names == (tuple(class_names) if class_names else ("cat", "cow", "dog"))
    labels = split.labels()
    pairs = [(split.class_names[i], split.class_names[j]) for i, j in zip(labels, split.written(labels), strict=True)]
    assert pairs == [("dog", "cat"), ("cat", "dog"), ("cow", "cat")]
    for bad, message in [
        ({"where": {"kind": "real"}}, "has no column 'kind'.*`where: kind`"),
        ({"text_column": "words"}, "Did you mean 'word'"),
        ({"where": "real"}, "must map columns to values"),
        ({"where": {"type": "none"}}, "is empty"),
        ({"streaming": True}, "`streaming` is not a key of a typographic task.*`text_column`"),
        ({"class_names": ["dog", "cow", "horse"]}, "contains the label 'cat'"),
    ]:
        with pytest.raises(InputError, match=message):
            load_splits(get_task(keys | bad))


def test_the_ready_tasks_of_photos():
    scam, clean = get_task("scam"), get_task("scam_clean")
    assert (scam.text_column, scam.label_column, scam.splits.train) == ("attack_word", "object_label", None)
    assert (clean.name, clean.where, clean.dataset) == ("scam_clean", {"type": "NoSCAM"}, scam.dataset)
    assert get_task("paint_typographic").dataset == "typographic_folder"
