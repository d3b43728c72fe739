"""Runs on images without labels: the same merges and alpha as with them, and refusals where labels count."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from drawn_tasks import CLASS_NAMES, write_task
from hf_paint import InputError, PatchOptions, Task, evaluate_tasks, patch_joint, patch_parallel, patch_sequential
from hf_paint.data.splits import load_splits
from hf_paint.merging.registry import read_method
from hf_paint.models.stored import StoredTower
from hf_paint.patching import grams
from hf_paint.patching.measurements import RunMeasurements
from hf_paint.patching.plan import plan
from hf_paint.patching.recipe import Rule
from hf_paint.patching.run import PatchRun
from hf_paint.patching.start import prepare, resolve
from hf_paint.results.curve import AlphaCurve
from patch_runs import arguments
from report_checks import checked_report


REGMEAN = {"regmean": {"num_images": 12}}
UNLABELLED = ["train", "validation"]


def without_labels(task):
    """The task with a train file from which the label column was removed; validation images are drawn from it."""
    files = {split: str(Path(path).with_name(f"bare-{Path(path).name}")) for split, path in task.data_files.items()}
    files["test"] = task.data_files["test"]
    pq.write_table(pq.read_table(task.data_files["train"]).drop_columns("label"), files["train"])
    return Task.from_dict(task.to_dict() | {"data_files": files, "unlabelled": UNLABELLED})


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Whether they have labels -> two patching tasks and a supported one, of the same images."""
    folder, names = tmp_path_factory.mktemp("unlabelled"), ("one", "two", "kept")
    keys = {"class_names": list(CLASS_NAMES), "train": 60, "test": 20}
    labelled = [write_task(folder, name, seed=seed, **keys) for seed, name in enumerate(names)]
    return {True: labelled, False: [without_labels(task) for task in labelled]}


@pytest.fixture(scope="module")
def settings(both, thetas):
    """Arguments of `patch_parallel` for tasks with or without labels, whose models are given."""

    def make(labelled, folder, method=REGMEAN, *, selection="entropy", **options):
        models = dict(zip(("one", "two"), thetas.values(), strict=False))
        options = PatchOptions(num_examples=0, method=method, **{"thetas": models} | options)
        own = both[labelled]
        return {
            "patching_tasks": own[:2],
            "supported_tasks": own[2:],
            "args": arguments(folder),
            "options": options,
        }, {"alphas": [0.0, 0.5, 1.0], "selection": selection}

    return make


@pytest.fixture(scope="module")
def runs(settings, model_folder, tmp_path_factory):
    """Whether there are labels -> a run of RegMean whose alpha is chosen by entropy, and its Gram matrices."""
    found, save = {}, grams.save_fingerprinted
    for labelled in (True, False):
        measured = []
        with pytest.MonkeyPatch.context() as patching:
            patching.setattr(
                grams, "save_fingerprinted", lambda path, x, to=measured: to.append(dict(x)) or save(path, x)
            )
            keys, rule = settings(labelled, tmp_path_factory.mktemp("run") / "run")
            found[labelled] = patch_parallel(model_folder, **keys, **rule), measured
    return found


def test_the_images_are_those_of_the_labelled_task(both):
    labelled, bare = (load_splits(both[each][0]) for each in (True, False))
    assert bare["train"].class_names == labelled["train"].class_names
    for name in ("train", "validation"):
        assert (bare[name].labels() == -1).all()
        pairs = zip(bare[name].rows["image"], labelled[name].rows["image"], strict=True)
        assert all(one.tobytes() == other.tobytes() for one, other in pairs)
    assert (bare["test"].labels() == labelled["test"].labels()).all()


def test_regmean_and_the_choice_by_entropy_need_no_labels(runs):
    (labelled, expected), (bare, found) = (runs[each] for each in (True, False))
    assert len(expected) == len(found) == 2
    for one, other in zip(expected, found, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(x, other[name]) for name, x in one.items())
    assert bare.alpha == labelled.alpha
    for result in labelled.curve.results:
        twin = bare.curve.get(result.alpha, result.role, result.task, result.split)
        assert twin.relative_entropy == result.relative_entropy
        assert (twin.total == 0) == (result.split == "validation")
        assert twin.metrics == (result.metrics if result.split == "test" else {})


def test_the_card_and_the_report_show_the_test_images(runs, settings, model_folder, monkeypatch):
    folder = runs[False][0].run_folder
    checked_report(folder)
    card = (folder / "patched/README.md").read_text()
    assert "which has the lowest mean entropy of predictions, without labels" in card
    assert "Normalised accuracy, in percent" in card
    assert " nan" not in card.lower()
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert {record["accuracy"] for record in records if record["split"] == "validation"} == {None}
    assert len(AlphaCurve.from_run(folder).results) == len(records)
    with pytest.raises(InputError, match="without labels have no accuracy"):
        AlphaCurve.from_run(folder).select("mean")
    monkeypatch.setattr("hf_paint.evaluation.evaluator.Evaluator.predict", None)  # a resumed run finds every record
    keys, rule = settings(False, folder)
    assert patch_parallel(model_folder, **keys, **rule).alpha == runs[False][0].alpha


def test_adamerging_learns_the_same_coefficients(settings, model_folder, thetas, tmp_path):
    method, learned = {"adamerging": {"steps": 3, "learning_rate": 0.05}}, []
    for labelled in (True, False):
        keys, rule = settings(labelled, tmp_path / str(labelled), method)
        run: PatchRun = prepare(resolve("parallel", model_folder, rule=Rule(**rule), **keys))
        models = {name: StoredTower(folder) for name, folder in run.options.thetas.items()}
        measurements = RunMeasurements(run)

        measurements.record = learned.append
        read_method(method).merge(run.base.theta_0, models, measurements)
    assert learned[0] == learned[1]
    assert len(learned[0]) > 1


def test_the_dry_run_measures_accuracy_where_there_are_labels(settings, model_folder, tmp_path):
    keys, rule = settings(False, tmp_path)
    keys["args"] = arguments(tmp_path)
    found = plan(
        model_folder,
        keys.pop("patching_tasks"),
        keys.pop("supported_tasks"),
        keys.pop("args"),
        strategy="parallel",
        rule=Rule(**rule),
        **keys,
    )
    assert {sample.split for sample in found.zero_shot} == {"test"}
    assert not any("Classes without" in line for line in found.concerns)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": "mean"}, "The validation split of task 'one' is `unlabelled`, but `selection: mean` compares"),
        ({"selection": "supported_within"}, "`selection: supported_within` compares accuracies. Set `selection: entr"),
        ({"thetas": {}}, "The train split of task 'one' is `unlabelled`, but it is trained on. Give a fine-tuned mod"),
        ({"method": "interpolate"}, "`strategy: parallel` searches for coefficients by accuracy"),
        ({"method": "greedy_soup"}, "but the method 'greedy_soup' compares predictions with labels. Use `regmean`"),
        (
            {"method": {"learned_soup": {"images": "train"}}},
            "The train split of task 'one' .* 'learned_soup' compares",
        ),
        ({"call": patch_joint, "thetas": {}, "method": "interpolate"}, "it is trained on"),
        ({"call": patch_sequential, "thetas": {}, "method": "interpolate"}, "it is trained on"),
    ],
)
def test_what_needs_labels_names_the_task_without_them(
    settings, model_folder, tmp_path, monkeypatch, changes, message
):
    monkeypatch.setattr("hf_paint.patching.start.open_task", None)  # no data are read before
    call = changes.pop("call", patch_parallel)
    keys, rule = settings(False, tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        call(model_folder, **keys, **rule)
    assert "\n" not in str(caught.value)


def test_an_unlabelled_split_has_no_accuracy(both, model_folder):
    with pytest.raises(InputError, match="The validation split of task 'one' is `unlabelled`, so it has no accuracy"):
        evaluate_tasks(model_folder, [both[False][0]], split="validation")
    assert evaluate_tasks(model_folder, [both[False][0]])[0].total == 20


def test_labels_that_are_there_are_not_read(tmp_path):
    """A data set may have a label column with nothing in it, or with -1, as splits of competitions do."""
    task = write_task(tmp_path, train=12, test=4, class_names=list(CLASS_NAMES), unlabelled=UNLABELLED)
    splits = load_splits(task)
    assert (splits["train"].labels() == -1).all()
    assert (splits["test"].labels() >= 0).all()
    assert Task.from_dict(task.to_dict()) == task


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"unlabelled": ["train"]},
            r"`validation` is read from the same rows. Name other splits in `splits`, or list",
        ),
        ({"unlabelled": ["test"]}, "can be train and validation; got 'test'. Test images need labels"),
        ({"unlabelled": UNLABELLED, "class_names": None}, "so it must list its `class_names`"),
        ({"unlabelled": UNLABELLED, "only_classes": ["red"]}, "`only_classes` .* cannot be used with `unlabelled`"),
        (
            {"unlabelled": ["train"], "splits": {"validation": None, "test": "stratified"}},
            "`test` is read from the sam",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys, message):
    definition = {"name": "a", "dataset": "me/a", "templates": ["{}"], "class_names": list(CLASS_NAMES)}
    with pytest.raises(InputError, match=message):
        Task.from_dict(definition | keys)
