import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from drawn_tasks import write_task
from hf_paint import (
    InputError,
    PaintTrainingArguments,
    PatchOptions,
    compare_runs,
    patch_joint,
    patch_parallel,
    patch_sequential,
    patch_single,
)
from hf_paint.cli.main import main
from hf_paint.results.alphas import Coefficients
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog
from run_folders import CHOSEN


def write_run(folder, accuracies, *, chosen=None, split="test", base="base", **recipe):
    """A run folder from {alpha: {"task (role)": correct of 100}}."""
    log = ResultLog(folder)
    for alpha, tasks in accuracies.items():
        for key, correct in tasks.items():
            task, role = key.removesuffix(")").split(" (")
            counts = {"correct": correct, "total": 100, "split": split}
            log.append(Result(alpha=alpha, task=task, role=role, weights=f"{base}-{alpha}", **counts))
    recipe = {"model": f"nowhere/{base}", "base_fingerprint": base} | recipe
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    if chosen is not None:
        (folder / "selection.json").write_text(json.dumps(CHOSEN | {"alpha": chosen}))
    return folder


def accuracies(mnist, svhn, cifar, food):
    columns = {
        "mnist (patching)": mnist,
        "svhn (patching)": svhn,
        "cifar (supported)": cifar,
        "food (supported)": food,
    }
    return {name: value for name, value in columns.items() if value is not None}


@pytest.fixture
def runs(tmp_path):
    """Two single runs and a joint one of one base; zero-shot is 40, 20, 90, 80."""
    mnist = {0.0: (40, None, 90, 80), 0.5: (85, None, 88, 79), 1.0: (99, None, 60, 50)}
    svhn = {0.0: (None, 20, 90, 80), 0.25: (None, 55, 89, 80), 1.0: (None, 97, 50, 42)}
    joint = {0.0: (40, 20, 90, 80), 0.5: (90, 80, 86, 78), 1.0: (98, 94, 70, 60)}
    tables = {"mnist": mnist, "svhn": svhn, "joint": joint}
    chosen, strategy = {"mnist": 0.5, "svhn": 0.25, "joint": 0.5}, {"joint": "joint"}
    return [
        write_run(
            tmp_path / name,
            {alpha: accuracies(*row) for alpha, row in table.items()},
            chosen=chosen[name],
            strategy=strategy.get(name, "single"),
        )
        for name, table in tables.items()
    ]


def test_a_model_at_alpha_1_is_named_after_what_it_is(tmp_path):
    """Merged from several models with ingredients, `thetas` or one model per task, or else fine-tuned."""
    table = {alpha: accuracies(40, None, 90, None) for alpha in (0.0, 0.5, 1.0)}
    recipes = {
        "parallel": {"strategy": "parallel", "method": {"tsv": {}}},
        "given": {"method": {"uniform_soup": {}}, "thetas": {"a": "a", "b": "b"}},
        "trained": {"method": {"uniform_soup": {}}, "ingredients": [{"seed": [0, 1]}]},
        "one": {"thetas": {"a": "a"}},
        "lines": {"method": {"lines": {"beta": 0.5}}},
    }
    folders = [write_run(tmp_path / name, table, chosen=0.5, **recipe) for name, recipe in recipes.items()]
    names = [method.name.split(", ", 1)[1] for method in compare_runs(folders).methods if method.alpha == 1.0]
    assert [name.split("), ")[-1] for name in names] == [*["merged, alpha 1"] * 3, *["fine-tuned"] * 2]


METHODS = """\
| base | method | alpha | mnist (patching) | svhn (patching) | cifar (supported) | food (supported) | mean patching | \
mean supported |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| base | zero-shot | 0.00 | 40.00 | 20.00 | 90.00 | 80.00 | 30.00 | 85.00 |
| base | specialised models |  | 99.00 | 97.00 | 90.00 | 80.00 | 98.00 | 85.00 |
| base | mnist (single) | 0.50 | 85.00 |  | 88.00 | 79.00 |  | 83.50 |
| base | mnist (single), fine-tuned | 1.00 | 99.00 |  | 60.00 | 50.00 |  | 55.00 |
| base | svhn (single) | 0.25 |  | 55.00 | 89.00 | 80.00 |  | 84.50 |
| base | svhn (single), fine-tuned | 1.00 |  | 97.00 | 50.00 | 42.00 |  | 46.00 |
| base | joint (joint) | 0.50 | 90.00 | 80.00 | 86.00 | 78.00 | 85.00 | 82.00 |
| base | joint (joint), fine-tuned | 1.00 | 98.00 | 94.00 | 70.00 | 60.00 | 96.00 | 65.00 |
"""
DISTANCES = """\
| base | method | mnist | svhn | cifar | food | mean patching | mean supported |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| base | zero-shot | -59.00 | -77.00 | +0.00 | +0.00 | -68.00 | +0.00 |
| base | mnist (single) | -14.00 |  | -2.00 | -1.00 |  | -1.50 |
| base | mnist (single), fine-tuned | +0.00 |  | -30.00 | -30.00 |  | -30.00 |
| base | svhn (single) |  | -42.00 | -1.00 | +0.00 |  | -0.50 |
| base | svhn (single), fine-tuned |  | +0.00 | -40.00 | -38.00 |  | -39.00 |
| base | joint (joint) | -9.00 | -17.00 | -4.00 | -2.00 | -13.00 | -3.00 |
| base | joint (joint), fine-tuned | -1.00 | -3.00 | -20.00 | -20.00 | -2.00 | -20.00 |
"""
NORMALISED = """\
| base | method | mnist | svhn | cifar | food | mean patching | mean supported |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| base | zero-shot | 40.40 | 20.62 | 100.00 | 100.00 | 30.51 | 100.00 |
| base | mnist (single) | 85.86 |  | 97.78 | 98.75 |  | 98.26 |
| base | mnist (single), fine-tuned | 100.00 |  | 66.67 | 62.50 |  | 64.58 |
| base | svhn (single) |  | 56.70 | 98.89 | 100.00 |  | 99.44 |
| base | svhn (single), fine-tuned |  | 100.00 | 55.56 | 52.50 |  | 54.03 |
| base | joint (joint) | 90.91 | 82.47 | 95.56 | 97.50 | 86.69 | 96.53 |
| base | joint (joint), fine-tuned | 98.99 | 96.91 | 77.78 | 75.00 | 97.95 | 76.39 |
"""


def test_tables_written_out(runs):
    text = compare_runs(runs).to_markdown()
    title = "Normalised accuracy: accuracy divided by that of the specialised model, %"
    assert f"## {title}\n\n{NORMALISED}\n" in text
    assert f"## Accuracy on the test split, %\n\n{METHODS}\n" in text
    assert f"## Distance to the specialised models, points\n\n{DISTANCES}\n" in text
    assert (
        "- Specialised models of base: mnist from mnist, svhn from svhn; for supported tasks the zero-shot model."
        in text
    )
    assert "- mnist has no theta_1: its weights are not compared." in text
    assert "size of the model" not in text


def test_json_holds_every_number(runs, tmp_path):
    compare_runs(runs).save(tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "comparison.json").read_text())
    rows = {row["method"]: row for row in numbers["methods"]}
    joint = rows["joint (joint)"]
    assert (joint["base"], joint["run"], joint["alpha"]) == ("base", "joint", 0.5)
    assert joint["accuracies"]["svhn"] == {"correct": 80, "total": 100, "accuracy": 0.8, "exact": True}
    assert joint["means"] == {"mean patching": 0.85, "mean supported": 0.82}
    expected = {"mnist": -0.09, "svhn": -0.17, "cifar": -0.04, "food": -0.02, "mean patching": -0.13}
    assert joint["distance_to_specialised"] == pytest.approx(expected | {"mean supported": -0.03})
    shares = {"mnist": 90 / 99, "svhn": 80 / 97, "cifar": 86 / 90, "food": 78 / 80}
    shares["mean patching"] = (90 / 99 + 80 / 97) / 2
    shares["mean supported"] = (86 / 90 + 78 / 80) / 2
    assert joint["normalised_accuracy"] == pytest.approx(shares)
    assert rows["specialised models"]["fine_tuned_in"] == {"mnist": "mnist", "svhn": "svhn"}
    assert rows["mnist (single)"]["means"]["mean patching"] is None
    assert numbers["runs"][2]["curve"][1] == {"alpha": 0.5, "supported": 0.82, "patching": 0.85}
    assert [run["chosen"] for run in numbers["runs"]] == [0.5, 0.25, 0.5]
    assert (numbers["split"], numbers["changes"], numbers["pairs"]) == ("test", [], [])
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert METHODS in text
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"methods.png", "trade_off.png"}
    assert "![trade_off.png](trade_off.png)" in text


def test_a_specialised_model_is_fine_tuned_and_no_more_if_there_is_one(runs, tmp_path):
    lines = {0.0: accuracies(40, None, 90, 80), 1.0: accuracies(70, None, 80, 70)}
    folders = [write_run(tmp_path / "lines", lines, method={"lines": {"beta": 0.5}}), *runs]
    for given, specialised in ((folders, "mnist"), (folders[:1], "lines")):
        [found] = [method.sources for method in compare_runs(given).methods if method.sources]
        assert found["mnist"] == specialised


def test_points_of_several_coefficients(tmp_path):
    """The specialised models of a parallel run are its points with one coefficient of 1."""
    both, first = Coefficients({"mnist": 0.5, "svhn": 0.25}), Coefficients({"mnist": 0.5})
    ends = {
        Coefficients({task: 1.0}): {f"{task} (patching)": correct} for task, correct in (("mnist", 99), ("svhn", 97))
    }
    zero_shot = {0.0: accuracies(40, 20, 90, 80)}
    parallel = zero_shot | {both: accuracies(80, 70, 88, 79)} | ends
    history = zero_shot | {first: accuracies(85, 22, 89, 80), both: accuracies(78, 75, 87, 76)}
    folders = [
        write_run(tmp_path / "together", parallel, chosen=dict(both), strategy="parallel"),
        write_run(tmp_path / "one-by-one", history, chosen=dict(both), strategy="sequential"),
    ]
    comparison = compare_runs(folders)
    text = comparison.to_markdown()
    assert "| base | specialised models |  | 99.00 | 97.00 | 90.00 | 80.00 | 98.00 | 85.00 |" in text
    row = "| mnist 0.50, svhn 0.25 | 80.00 | 70.00 | 88.00 | 79.00 | 75.00 | 83.50 |"
    assert f"| base | together (parallel) {row}" in text
    assert "| base | together (parallel) | -19.00 | -27.00 | -2.00 | -1.00 | -23.00 | -1.50 |" in text
    assert "| base | one-by-one (sequential) | -21.00 | -22.00 | -3.00 | -4.00 | -21.50 | -3.50 |" in text
    assert len(comparison.methods) == 4
    parallel, sequential = comparison.to_dict()["runs"]
    assert parallel["chosen"] == {"mnist": 0.5, "svhn": 0.25}
    assert [point["alpha"] for point in parallel["curve"]] == [0.0, {"mnist": 0.5, "svhn": 0.25}]
    assert [point["patching"] for point in sequential["curve"]] == pytest.approx([0.3, 0.535, 0.765])
    comparison.save(tmp_path / "out")


@pytest.mark.parametrize(("merge", "specialised"), [("sequential", {"mnist", "svhn"}), ("projection", {"mnist"})])
def test_a_merge_of_several_models_is_no_specialised_model(merge, specialised, tmp_path):
    """After a step at alpha 0, the next one fine-tunes the base; by projection, its theta_1 is still a merge."""
    kept = {0.0: accuracies(40, 20, 90, 80), Coefficients({"mnist": 0.0}): accuracies(40, 20, 90, 80)}
    moved = {0.0: accuracies(40, 20, 90, 80), Coefficients({"mnist": 1.0}): accuracies(99, 20, 90, 80)}
    merged = Coefficients({"mnist": 0.0, "svhn": 1.0})
    histories = {"moved": moved, "kept": kept | {merged: accuracies(50, 60, 70, 70)}}
    folders = [
        write_run(tmp_path / name, history, chosen=dict([*history][-1]), strategy="sequential", merge=merge)
        for name, history in histories.items()
    ]
    [found] = [method.sources for method in compare_runs(folders).methods if method.sources]
    assert found.keys() == specialised


def test_bases_of_several_sizes_have_their_own_rows(runs, tmp_path):
    large = {0.0: (60, None, 95, 90), 0.3: (96, None, 95, 89), 1.0: (99, None, 80, 70)}
    large = {alpha: accuracies(*row) for alpha, row in large.items()}
    folder = write_run(tmp_path / "large", large, chosen=0.3, base="large")
    comparison = compare_runs([runs[0], folder])
    text = comparison.to_markdown()
    assert "| base | zero-shot | 0.00 | 40.00 | 90.00 | 80.00 | 40.00 | 85.00 |" in text
    assert "| large | zero-shot | 0.00 | 60.00 | 95.00 | 90.00 | 60.00 | 92.50 |" in text
    assert (
        "| base | run | alpha | to specialised, points | cosine(theta_0, theta_1) |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| base | mnist (single) | 0.50 | -14.00 |  |\n| large | large (single) | 0.30 | -3.00 |  |\n"
    ) in text


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_one_base_has_one_name_and_prefers_its_id(runs, order):
    for run, model in zip(runs, ("folder/of/a/copy", "openai/clip-vit-base-patch32", "zs"), strict=True):
        recipe = yaml.safe_load((run / "recipe.yaml").read_text()) | {"model": model, "base_fingerprint": "f00d"}
        (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    comparison = compare_runs([runs[position] for position in order])
    assert {method.base for method in comparison.methods} == {"clip-vit-base-patch32"}


def test_a_run_that_chose_nothing_shows_its_fine_tuned_end(runs):
    (runs[1] / "selection.json").unlink()
    comparison = compare_runs(runs)
    names = [method.name for method in comparison.methods if method.run == "svhn"]
    assert names == ["svhn (single), fine-tuned"]
    assert "svhn has no selected alpha (not finished, or `selection: none`)." in comparison.notes


def test_published_numbers_stand_beside_runs_on_built_in_tasks(tmp_path):
    model = "openai/clip-vit-base-patch32"
    lines = {0.0: {"mnist (patching)": 48, "svhn (patching)": 32, "cifar10 (supported)": 90}}
    lines[1.0] = {"mnist (patching)": 99, "svhn (patching)": 97, "cifar10 (supported)": 60}
    tasks = {"patching_tasks": ["mnist", "svhn"], "supported_tasks": ["cifar10"]}
    other = {"patching_tasks": [{"name": "mnist", "dataset": "me/digits"}, "svhn"], "supported_tasks": ["cifar10"]}
    run = write_run(tmp_path / "a", lines, chosen=1.0, strategy="joint", model=model, **tasks)
    comparison = compare_runs([run])
    text = comparison.to_markdown()
    title = "Published accuracy, %, not measured in these runs"
    header = "| base | published | source | mnist | svhn | cifar10 | mean patching | mean supported |"
    assert f"## {title}\n\n{header}" in text
    start = "| clip-vit-base-patch32 | zero-shot | fusion_bench, docs/modelpool/clip_vit.md |"
    assert f"{start} 48.30 | 31.60 | 89.80 | 39.95 | 89.80 |" in text
    start = "| clip-vit-base-patch32 | joint, 8000 steps | mlfoundations/task_vectors, issue 5 |"
    assert f"{start} 99.45 | 95.80 |  | 97.62 |  |" in text
    rows = {row["name"]: row["percent"] for row in comparison.to_dict()["published"]}
    assert rows["specialised models"] == {"mnist": 99.6, "svhn": 97.3}
    assert "so no accuracy is normalised" in text
    cases = {"mine": {"model": model, **other}, "other": {"model": "me/clip-vit-base-patch32", **tasks}}
    found = {
        name: compare_runs([write_run(tmp_path / name, lines, chosen=1.0, **case)]) for name, case in cases.items()
    }
    assert "mnist" not in found["mine"].published[0][1].percent
    assert not found["other"].published
    assert title not in found["other"].to_markdown()


def test_other_zero_shot_accuracies_are_said(runs):
    path = runs[2] / "results.jsonl"
    path.write_text(
        path.read_text().replace('"correct": 40', '"correct": 41').replace('"accuracy": 0.4,', '"accuracy": 0.41,')
    )
    comparison = compare_runs(runs)
    assert "| base | zero-shot | 0.00 | 40.00 |" in comparison.to_markdown()
    [note] = [note for note in comparison.notes if "zero-shot accuracies" in note]
    assert note.startswith(
        "joint and the earlier runs have different zero-shot accuracies; the earlier ones are shown: mnist."
    )


def test_tasks_that_are_only_looked_at(tmp_path):
    folder = write_run(
        tmp_path / "a", {0.0: {"svhn (transfer)": 5, "mnist (patching)": 6}, 1.0: {"svhn (transfer)": 7}}, chosen=0.0
    )
    text = compare_runs([folder]).to_markdown()
    assert "| base | method | alpha | mnist (patching) | svhn (transfer) | mean patching |" in text
    assert "| base | a (single), fine-tuned | 1.00 |  | 7.00 |  |" in text


def test_inexact_numbers_are_marked(tmp_path):
    folder = write_run(tmp_path / "a", {0.0: {"mnist (patching)": 6}}, chosen=0.0)
    counts = {"correct": 9, "total": 100, "split": "test", "exact": False}
    ResultLog(folder).append(Result(alpha=1.0, task="mnist", role="patching", weights="x", **counts))
    text = compare_runs([folder]).to_markdown()
    assert "| base | a (single), fine-tuned | 1.00 | ~9.00 | ~9.00 |" in text


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    (tmp_path / "again").mkdir()
    shutil.copytree(runs[0], tmp_path / "again" / "mnist")
    names = [run.name for run in compare_runs([runs[0], tmp_path / "again" / "mnist"]).runs]
    assert names == [f"{tmp_path.name}/mnist", "again/mnist"]


def no_recipe(folder):
    (folder / "recipe.yaml").unlink()


def no_results(folder):
    (folder / "results.jsonl").unlink()


def no_points(folder):
    (folder / "selection.json").unlink()
    lines = (folder / "results.jsonl").read_text().splitlines()
    (folder / "results.jsonl").write_text("".join(f"{x}\n" for x in lines if '"alpha": 1.0' not in x))


def other_choice(folder):
    (folder / "selection.json").write_text(json.dumps(CHOSEN | {"alpha": 0.7}))


def torn_choice(folder):
    (folder / "selection.json").write_text('{"alp')


def other_images(folder):
    path = folder / "results.jsonl"
    records = map(json.loads, path.read_text().splitlines())
    larger = [record | {"total": 101, "accuracy": record["correct"] / 101} for record in records]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in larger))


def other_tasks(folder):
    path = folder / "results.jsonl"
    for name in ("mnist", "svhn", "cifar", "food"):
        path.write_text(path.read_text().replace(f'"{name}"', f'"my-{name}"'))


BAD = {
    no_recipe: "is not a run folder: it has no recipe.yaml",
    no_results: "results.jsonl does not exist",
    no_points: "joint has no test records for a selected alpha or for the fine-tuned model",
    other_choice: "selection.json contains alpha 0.70, for which results.jsonl has no records",
    torn_choice: "selection.json is not valid JSON",
    other_images: "is not the same in all runs: it has 100 images in mnist, but 101 in joint",
    other_tasks: "joint has no task in common with the other runs on the test split",
}


@pytest.mark.parametrize(("damage", "message"), BAD.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_bad_input_is_one_line_and_exit_code_2(runs, capsys, damage, message):
    damage(runs[2])
    assert main(["compare", *map(str, runs)]) == 2
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert line.startswith("hf-paint: ")
    assert message in line
    assert captured.out == ""


def test_other_bad_input(runs, tmp_path):
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "orders.json").write_text("{}")
    with pytest.raises(InputError, match="contains runs with several task orders. Pass their folders"):
        compare_runs([tmp_path / "orders"])
    with pytest.raises(InputError, match=r"has no records on the validation split, only on: test"):
        compare_runs(runs, split="validation")
    with pytest.raises(InputError, match="is given twice"):
        compare_runs([runs[0], runs[0]])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        compare_runs(runs).save(tmp_path / "file")


@pytest.fixture(scope="module")
def patched(model_folder, tmp_path_factory):
    """Two single runs from one base, each with the other's task as supported task."""
    folder = tmp_path_factory.mktemp("runs")
    tasks = {"colours": write_task(folder / "data"), "others": write_task(folder / "data", "others", seed=7)}
    for name, task in tasks.items():
        [other] = [t for t in tasks.values() if t is not task]
        patch_single(model_folder, task, [other], arguments(folder / name), alphas=[0.0, 0.5, 1.0])
    return [folder / name for name in tasks]


def arguments(folder):
    steps = {"learning_rate": 1e-3, "max_steps": 4, "warmup_steps": 1, "per_device_train_batch_size": 16}
    return PaintTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **steps)


def tower(folder):
    theta = load_file(Path(folder) / "model.safetensors")
    return torch.cat([theta[name].double().reshape(-1) for name in sorted(theta) if name.startswith("vis")])


def test_runs_of_patch_single(patched, model_folder, tmp_path, capsys):
    assert main(["compare", *map(str, patched), "--output_dir", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert output.strip() in (tmp_path / "comparison.md").read_text()
    numbers = json.loads((tmp_path / "comparison.json").read_text())
    theta_0, *thetas = (tower(folder) for folder in (model_folder, *(run / "theta_1" for run in patched)))
    for change, theta_1 in zip(numbers["changes"], thetas, strict=True):
        norm = torch.linalg.vector_norm(theta_1 - theta_0)
        assert change["layers"]["all"]["norm"] == pytest.approx(norm.item(), rel=1e-9)
        assert change["layers"]["all"]["relative_norm"] == pytest.approx((norm / theta_0.norm()).item(), rel=1e-9)
        cosine = torch.cosine_similarity(theta_0, theta_1, dim=0).item()
        assert change["layers"]["all"]["cosine"] == pytest.approx(cosine, abs=1e-12)
    cosine = torch.cosine_similarity(thetas[0] - theta_0, thetas[1] - theta_0, dim=0).item()
    [pair] = numbers["pairs"]
    assert (pair["runs"], pair["cosine"]["all"]) == (["colours", "others"], pytest.approx(cosine, abs=1e-9))
    assert list(pair["cosine"]) == ["all", "embeddings", "layer 0", "layer 1", "projection"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"methods.png", "trade_off.png", "cosines.png"}
    assert len([method for method in numbers["methods"] if method["method"] == "zero-shot"]) == 1


def test_runs_of_every_strategy(patched, model_folder, tmp_path):
    """A parallel run that takes its models from the single runs compares the same weights."""
    data = patched[0].parent / "data"
    tasks = [write_task(data), write_task(data, "others", seed=7)]
    supported = [write_task(data, "third", seed=3)]
    rules = {"alphas": [0.0, 0.5, 1.0]}
    thetas = {"colours": str(patched[0] / "theta_1")}
    strategies = {
        "joint": (patch_joint, PatchOptions()),
        "sequential": (patch_sequential, PatchOptions()),
        "parallel": (patch_parallel, PatchOptions(thetas=thetas, search_budget=6)),
    }
    for name, (patch, options) in strategies.items():
        patch(model_folder, tasks, supported, arguments(tmp_path / name), options=options, **rules)
    comparison = compare_runs([*patched, *(tmp_path / name for name in strategies)])
    names = [method.run or method.name for method in comparison.methods]
    expected = ["zero-shot", "specialised models", "colours", "others", "joint", "sequential", "parallel"]
    assert list(dict.fromkeys(names)) == expected
    [changes] = comparison.changes.values()
    assert changes.models == ("colours", "others", "joint", "parallel/colours", "parallel/others")
    assert changes.norm("parallel/colours") == changes.norm("colours") > 0
    theta_0, theta_1 = tower(model_folder), tower(tmp_path / "parallel" / "thetas" / "others" / "theta_1")
    assert changes.norm("parallel/others") == pytest.approx((theta_1 - theta_0).norm().item(), rel=1e-9)
    assert any("sequential has no theta_1" in note for note in comparison.notes)
    comparison.save(tmp_path / "out")


def test_validation_split(patched):
    text = compare_runs(patched, split="validation").to_markdown()
    assert "## Accuracy on the validation split, %" in text


def test_a_base_that_is_not_on_this_disk_is_skipped_with_one_line(patched, tmp_path):
    for run in patched:
        shutil.copytree(run, tmp_path / run.name)
        path = tmp_path / run.name / "recipe.yaml"
        recipe = yaml.safe_load(path.read_text()) | {"model": "some/clip-on-the-hub"}
        path.write_text(yaml.safe_dump(recipe))
    comparison = compare_runs([tmp_path / run.name for run in patched])
    assert comparison.changes == {}
    [note] = [note for note in comparison.notes if "on this disk" in note]
    assert note == "clip-on-the-hub is not on this disk (some/clip-on-the-hub): its weights are not compared."


def test_a_base_in_the_cache_of_the_hub_is_found(patched, model_folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    repository = tmp_path / "cache" / "models--some--clip"
    shutil.copytree(model_folder, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    shutil.copytree(patched[0], tmp_path / "run")
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text()) | {"model": "some/clip"}
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    [found], [expected] = (compare_runs([run]).changes.values() for run in (tmp_path / "run", patched[0]))
    assert found.norm("run") == expected.norm("colours") > 0


def test_needs_no_torch(runs, tmp_path):
    program = (
        "import sys\nfrom hf_paint.cli import main\n"
        f"code = main(['compare', *{[*map(str, runs)]!r}, '--output_dir', {str(tmp_path / 'out')!r}])\n"
        "heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
