"""`method: auto`: of several merges, the best on the validation images within a budget."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
import yaml

from drawn_tasks import write_task
from hf_paint import AlphaCurve, InputError, PatchOptions, compare_runs, patch_parallel, patch_single
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.merging.auto import label
from hf_paint.merging.registry import METHODS, read_method
from hf_paint.patching.plan import plan
from hf_paint.patching.recipe import Rule
from hf_paint.patching.reselect import select_alpha
from hf_paint.report.building import report_of
from hf_paint.results.alphas import Coefficients
from hf_paint.results.records import Result
from hf_paint.results.tried_methods import best, read_tried, rule_of_recipe, tried_rows
from patch_runs import arguments, weights


ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]
TRIED = ["uniform_soup", {"ties": {"density": 0.5}}, "tsv"]
BUDGET = 8
"""Allows two alphas for each of three merges, and the model before patching."""
AUTO = {"method": {"auto": {"methods": TRIED}}, "search_budget": BUDGET}


@pytest.fixture(scope="module")
def material(model_folder, tasks, thetas, tmp_path_factory):
    """A call that patches two tasks, which have a fine-tuned model each, in a folder."""
    third = write_task(tmp_path_factory.mktemp("third"), "third", seed=3)
    given = dict(zip((tasks[0].name, third.name), thetas.values(), strict=False))

    def patch(folder, *, call=patch_parallel, selection="mean", alphas=ALPHAS, **options):
        options = PatchOptions(num_examples=0, thetas=given, **options)
        rule = {"alphas": alphas, "selection": selection}
        if call is plan:
            rule = {"rule": Rule(**rule), "strategy": "parallel"}
        return call(model_folder, [tasks[0], third], [tasks[1]], arguments(folder), **rule, options=options)

    return patch


@pytest.fixture(scope="module")
def auto(material, tmp_path_factory):
    """A finished run, and the (alpha, task, split) that it evaluated in order."""
    evaluated, predict = [], Evaluator.predict
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Evaluator, "predict", lambda *of: evaluated.append(of[2:]) or predict(*of))
        result = material(tmp_path_factory.mktemp("auto") / "run", **AUTO)
    return result, evaluated


def mean_accuracy(curve, alpha):
    return sum(curve.mean_accuracy(alpha, role, "validation") for role in ("patching", "supported")) / 2


def records(curve):
    """The records without the names of their per-image files, which say where the weights were first evaluated."""
    return [replace(result, correct_file=None) for result in curve.results]


def test_it_is_the_best_of_the_methods_by_themselves_within_the_budget(auto, material, tmp_path):
    result, evaluated = auto
    tried = read_tried(result.run_folder)
    assert len(tried.points("validation")) == len(tried.alphas) == 7 <= BUDGET
    names = ("uniform_soup", "ties density=0.5", "tsv")
    assert tried.alphas[1:] == tuple(Coefficients({name: alpha}) for name in names for alpha in (0.5, 1.0))
    scores = {}
    for name, method in zip(names, TRIED, strict=True):
        curve = material(tmp_path / name, method=method).curve
        for alpha in (0.0, 0.5, 1.0):
            assert mean_accuracy(tried, Coefficients({name: alpha}) if alpha else 0.0) == mean_accuracy(curve, alpha)
        scores[name] = max(mean_accuracy(curve, alpha) for alpha in (0.5, 1.0))
    chosen = label(read_method(yaml.safe_load((result.run_folder / "recipe.yaml").read_text())["method"]).chosen)
    assert scores[chosen] == max(scores.values())
    assert mean_accuracy(result.curve, result.alpha) >= max(scores.values())
    alone = AlphaCurve.from_run(tmp_path / chosen)
    assert records(result.curve) == records(alone)  # finished as if the method had been named
    assert len(evaluated) == 7 * 3 + (len(ALPHAS) * 6 - 3 * 3) + 2  # what was tried is not evaluated again
    found, expected = (weights(folder / "patched") for folder in (result.run_folder, tmp_path / chosen))
    assert all(torch.equal(found[name], x) for name, x in expected.items())


def test_the_models_that_are_merged_are_evaluated_on_their_own_tasks(auto, material, tmp_path):
    folder = auto[0].run_folder
    searched = material(tmp_path / "searched", search_budget=2).curve
    [zero_shot, alone, *_] = compare_runs([folder]).methods
    names = searched.tasks["patching"]
    assert [*alone.sources] == names
    for name in names:
        expected = searched.get(Coefficients({name: 1.0}), "patching", name, "test")
        assert alone.results[name].correct == expected.correct
    assert alone.results["others"] == zero_shot.results["others"]
    assert not any(isinstance(alpha, Coefficients) for alpha in AlphaCurve.from_run(folder).alphas)
    assert_normalised(folder, {name: alone.results[name].accuracy for name in names})


def assert_normalised(folder, alone):
    """The card and the report show accuracy divided by that of each task alone, and the mean of the quotients."""
    run, curve = report_of([folder])["runs"][0], AlphaCurve.from_run(folder)
    alpha = curve.alphas[run["chosen"]]
    shares = {name: curve.get(alpha, "patching", name, "test").accuracy / value for name, value in alone.items()}
    shares["mean patching"] = sum(shares.values()) / len(shares)
    [table] = [table for table in run["tables"] if table["title"].startswith("Normalised accuracy on test images")]
    [row] = [
        dict(zip(table["columns"], row, strict=True)) for row in table["rows"] if row[0].endswith("(parallel, auto)")
    ]
    assert {name: row[name] for name in shares} == pytest.approx(shares)
    card = (folder / "patched/README.md").read_text()
    for name, value in alone.items():
        cells = [curve.get(0.0, "patching", name, "test").accuracy, value, shares[name] * value, shares[name]]
        assert f"| {name} | patching | {' | '.join(f'{100 * cell:.2f}' for cell in cells)} |" in card
    assert f"| {100 * shares['mean patching']:.2f} |" in card


def test_single_models_are_counted_and_not_evaluated_again(auto, material, tmp_path, monkeypatch):
    shutil.copytree(auto[0].run_folder, tmp_path / "run")
    path = tmp_path / "run/single_models.jsonl"
    first, _ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first)
    found = material(tmp_path / "run", call=plan, **AUTO)
    assert "Single models: 1 of 2 are on record." in found.progress
    evaluated, predict = [], Evaluator.predict
    monkeypatch.setattr(Evaluator, "predict", lambda *of: evaluated.append(of[2:]) or predict(*of))
    material(tmp_path / "run", **AUTO)
    assert len(evaluated) == 1
    assert path.read_bytes() == (auto[0].run_folder / "single_models.jsonl").read_bytes()


def test_by_entropy_it_is_the_merge_whose_predictions_are_most_certain(material, tmp_path):
    result = material(tmp_path, selection="entropy", **AUTO)
    tried, roles = read_tried(tmp_path), {"patching": 2, "supported": 1}
    means = {}
    for alpha in tried.alphas[1:]:
        at = [r for r in tried.results if r.alpha == alpha]
        sides = [[r.relative_entropy for r in at if r.role == role] for role in roles]
        assert [len(side) for side in sides] == [*roles.values()]
        means[alpha] = sum(sum(side) / len(side) for side in sides) / 2
    stored = yaml.safe_load((tmp_path / "recipe.yaml").read_text())["method"]
    [(best_label, best_alpha)] = min(means, key=means.get).items()
    assert label(read_method(stored).chosen) == best_label
    assert f"| {best_label} | {best_alpha:.2f} | " in (card := (tmp_path / "patched/README.md").read_text())
    assert f" | {min(means.values()):.4f} |" in card
    chosen = [r for r in result.curve.results if r.alpha == result.alpha and r.split == "validation"]
    sides = [[r.relative_entropy for r in chosen if r.role == role] for role in roles]
    assert sum(sum(side) / len(side) for side in sides) / 2 <= min(means.values()) + 1e-9
    [table] = [
        t for t in report_of([tmp_path])["runs"][0]["tables"] if t["title"].startswith("Merges that were tried")
    ]
    assert table["columns"] == ["merge", "alpha", "patching", "supported", "entropy"]


def test_merges_can_be_compared_without_labels():
    kept, other = (Coefficients({name: 0.5}) for name in ("kept", "other"))
    entropies = {0.0: 0.5, kept: 0.2, other: 0.4}
    curve = AlphaCurve(
        Result(alpha=alpha, task=task, role=role, split="validation", correct=0, total=0, relative_entropy=value)
        for alpha, value in entropies.items()
        for task, role in (("a", "patching"), ("b", "supported"))
    )
    recipe = {"selection": "entropy"}
    assert best(curve, rule_of_recipe(recipe)) == "kept"
    assert tried_rows(curve, recipe)[1:] == [["kept", "0.50", "", "", "0.2000"], ["other", "0.50", "", "", "0.4000"]]


def test_the_recipe_says_what_was_asked_for_and_chosen(auto, material, tmp_path, monkeypatch):
    folder = auto[0].run_folder
    stored = yaml.safe_load((folder / "recipe.yaml").read_text())
    asked, chosen = stored["method"]["auto"]["methods"], stored["method"]["auto"]["chosen"]
    assert asked == [{"uniform_soup": {}}, {"ties": {"density": 0.5}}, {"tsv": {}}]
    assert chosen in asked
    again = material(tmp_path / "again", method=stored["method"], search_budget=BUDGET)
    assert records(again.curve) == records(auto[0].curve)
    assert not (again.run_folder / "methods.jsonl").exists()
    monkeypatch.setattr(Evaluator, "predict", None)
    assert material(folder, **AUTO).alpha == auto[0].alpha
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == stored
    for change in ({"alphas": [0.0, 1.0]}, {"search_budget": 9}, {"selection": "supported_within"}):
        with pytest.raises(InputError, match=f"different recipe.yaml .{next(iter(change))}: "):
            material(folder, **AUTO | change)
    with pytest.raises(InputError, match="was made with its selection rule"):
        select_alpha(folder, selection="supported_within")


def test_the_card_and_the_report_say_what_each_merge_reached(auto):
    folder = auto[0].run_folder
    card, tried = (folder / "patched/README.md").read_text(), read_tried(folder)
    assert "This merge was chosen on the validation images." in card
    [table] = [t for t in report_of([folder])["runs"][0]["tables"] if t["title"].startswith("Merges that were tried")]
    assert [row[0] for row in table["rows"]] == ["uniform_soup", "ties density=0.5", "tsv"]
    for name, alpha, *sides in table["rows"]:
        at = [Coefficients({name: value}) for value in (0.5, 1.0)]
        assert sum(sides) / 2 == pytest.approx(float(max(mean_accuracy(tried, one) for one in at)))
        shown = " | ".join(f"{100 * side:.2f}" for side in sides)
        assert f"| {name} | {alpha} | {shown} |" in card


@pytest.mark.parametrize("last", [8, 21])
def test_an_interrupted_choice_goes_on(auto, material, tmp_path, monkeypatch, last):
    counted, predict = [], Evaluator.predict

    def stop(*of):
        if len(counted) == last:
            raise KeyboardInterrupt
        counted.append(of[2:])
        return predict(*of)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Evaluator, "predict", stop)
        material(tmp_path, **AUTO)
    monkeypatch.setattr(Evaluator, "predict", lambda *of: counted.append(of[2:]) or predict(*of))
    result = material(tmp_path, **AUTO)
    assert len(counted) == len(auto[1])
    for name in ("methods.jsonl", "results.jsonl", "single_models.jsonl", "selection.json"):
        assert (tmp_path / name).read_bytes() == (auto[0].run_folder / name).read_bytes()
    assert result.curve.results == auto[0].curve.results
    found, expected = (yaml.safe_load((f / "recipe.yaml").read_text()) for f in (tmp_path, auto[0].run_folder))
    assert found["method"] == expected["method"]


def test_damaged_trials_are_evaluated_again_or_named(auto, material, tmp_path, monkeypatch):
    shutil.copytree(auto[0].run_folder, tmp_path / "run")
    path = tmp_path / "run/methods.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[3]) | {"correct": -1}
    path.write_text("\n".join([*lines[:3], json.dumps(record), *lines[4:]]) + "\n")
    with pytest.raises(InputError, match=r"methods.jsonl"):
        report_of([tmp_path / "run"])
    monkeypatch.setattr(Evaluator, "predict", None)
    material(tmp_path / "run", **AUTO)
    assert path.read_text().splitlines() == [*lines[:3], *lines[4:]]


@pytest.mark.parametrize("lost", ["methods.jsonl", "details.jsonl"])
def test_a_finished_run_stays_whole_if_a_trial_of_alpha_0_is_lost(auto, material, tmp_path, monkeypatch, lost):
    """The choice is made, so its trials are not repeated; without alpha 0, they cannot be compared with anything."""
    shutil.copytree(auto[0].run_folder, tmp_path / "run")
    path = tmp_path / "run" / lost
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first.replace(b"0", b"7") + b"".join(others))
    result = material(tmp_path / "run", **AUTO)
    assert result.alpha == auto[0].alpha
    assert read_tried(tmp_path / "run") is None
    card = (tmp_path / "run/patched/README.md").read_text()
    assert "This merge was chosen on the validation images." in card
    assert "uniform_soup | 0.5" not in card
    assert report_of([tmp_path / "run"])["runs"]


def test_the_dry_run_counts_what_is_tried(auto, material, tmp_path):
    found = material(tmp_path, call=plan, **AUTO)
    sizes = {split: sum(len(task.images[split]) for task in found.run.tasks) for split in ("validation", "test")}
    alone = sum(len(task.images["test"]) for task in found.run.tasks if task.role == "patching")
    assert found.num_images == 7 * sizes["validation"] + 5 * (sizes["validation"] + sizes["test"]) + alone


def curve_of(sides):
    """A curve with the accuracies (patching, supported) of each alpha."""
    first = AlphaCurve.from_accuracies([0.0], patching={"a": [0.5]}, supported={"b": [0.9]}).results
    others = [
        AlphaCurve.from_accuracies([alpha], patching={"a": [side[0]]}, supported={"b": [side[1]]}).results
        for alpha, side in sides.items()
    ]
    return AlphaCurve([*first, *(result for results in others for result in results)])


def test_the_rule_of_the_run_compares_the_merges():
    """Supported accuracy 0.9 before: 0.89 is within the tolerance of one point, 0.85 is not."""
    high, low, kept = (Coefficients({name: 0.5}) for name in ("high", "low", "kept"))
    within = rule_of_recipe({"selection": "supported_within", "tolerance": 0.01})
    mean = rule_of_recipe({"selection": "mean"})
    sides = {high: (0.95, 0.85), low: (0.6, 0.9), kept: (0.7, 0.89)}
    assert best(curve_of(sides), within) == "kept"
    assert best(curve_of(sides), mean) == "high"
    assert best(curve_of({high: (0.95, 0.85), low: (0.94, 0.88)}), within) == "low"  # none is within: the nearest
    assert best(curve_of({low: (0.4, 0.95)}), mean) == "low"  # even if it is worse than before patching
    assert Fraction(9, 10) == curve_of(sides).sides(0.0).supported


def test_cheap_merges_need_no_images_and_auto_tries_all_of_them():
    found = read_method("auto").candidates
    assert list(found) == [name for name, method in METHODS.items() if method.cheap]
    assert {"uniform_soup", "task_arithmetic", "ties", "dare", "tsv", "iso_c", "iso_cts"} <= {*found}
    for method in found.values():
        assert method.takes == "several"
        assert method.is_line
        assert not method.chooses
        assert [method.needs_validation, method.needs_train, method.needs_selection] == [False] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "auto", "call": patch_single}, "needs `strategy: parallel`, got `single`"),
        ({"method": "auto", "search_budget": 7}, "`search_budget` must be at least 8 to try 7 merges"),
        ({"method": "auto", "search": "random"}, "has a single alpha. Remove `search`"),
        ({"method": "auto", "selection": "none"}, "so it needs a `selection` other than `none`"),
        ({"method": "auto", "alphas": [0.0]}, "0 is the only one"),
        ({"method": {"auto": {"methods": ["greedy_soup"]}}}, "need no images, but 'greedy_soup' is not one"),
        ({"method": {"auto": {"methods": ["auto"]}}}, "'auto' is not one"),
        ({"method": {"auto": {"methods": ["ties", "ties"]}}}, r"different merges, got \['ties', 'ties'\]"),
        ({"method": {"auto": {"methods": []}}}, r"one or more different merges, got \[\]"),
        ({"method": {"auto": {"methods": "ties"}}}, r"must be a list of methods, like \[ties, tsv\], got 'ties'"),
        ({"method": {"auto": {"methods": ["tis"]}}}, "Unknown method 'tis'. Did you mean 'ties'"),
        ({"method": {"auto": {"chosen": 5}}}, "`chosen` of the method 'auto' must be a method, got 5"),
        ({"method": {"auto": {"density": 5}}}, "Unknown option 'density' for the method 'auto'"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_one_line(material, tmp_path, monkeypatch, options, message):
    def single(model, patching, *rest, **keys):
        return patch_single(model, patching[0], *rest, **keys)

    if "call" in options:
        options = options | {"call": single}
    monkeypatch.setattr("hf_paint.patching.start.prepare_task", None)  # no data are read before
    with pytest.raises(InputError, match=message) as caught:
        material(tmp_path / "run", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
