"""Runs with shift tasks: robustness against written-out formulas, the ensemble against plain logits."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from datasets import Dataset
from transformers import CLIPModel, CLIPProcessor

from browser import check_page
from counting_evaluator import CountingEvaluator
from drawn_tasks import write_task
from hf_paint import (
    AlphaCurve,
    InputError,
    PaintTrainingArguments,
    PatchOptions,
    corrupted,
    evaluate_ensemble,
    patch_parallel,
    patch_single,
    prepare_task,
    robustness_table,
)
from hf_paint.cli.run_recipe import parse_recipe, run_recipe
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.hub.card_source import CardSource
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.results.alphas import Coefficients
from hf_paint.results.plots.scatter import draw_scatter
from hf_paint.results.plots.shown import Shown
from hf_paint.results.records import Result
from hf_paint.results.robustness_table import RobustnessTable, read_baseline
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.corruptions import Corruption
from report_checks import checked_report


ALPHAS = (0.0, 0.3, 1.0)
PAIRS = ((0.3, 0.25), (0.5, 0.4), (0.8, 0.6))


def logit(p):
    return math.log(p / (1 - p)) if 0 < p < 1 else math.copysign(math.inf, p - 0.5)


def beta(accuracies):
    """The line through the logits of PAIRS, by the closed form of least squares."""
    x, y = ([logit(p) for p in column] for column in zip(*PAIRS, strict=True))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    z = slope * np.array([logit(p) for p in np.atleast_1d(accuracies)]) + mean_y - slope * mean_x
    return 1 / (1 + np.exp(-z))


@pytest.fixture(scope="module")
def run(model_folder, tmp_path_factory):
    """A run with two corruptions of the patching task, a baseline and the ensemble: its folder, task and result."""
    folder = tmp_path_factory.mktemp("shift")
    task, other = write_task(folder / "data", test=60), write_task(folder / "data", "others", seed=7)
    shifts = corrupted(task, names=["noise", "contrast"], severities=[5])
    args = PaintTrainingArguments(
        output_dir=str(folder / "run"), learning_rate=3e-4, max_steps=8, warmup_steps=2, use_cpu=True,
        disable_tqdm=True, per_device_train_batch_size=16,
    )  # fmt: skip
    options = PatchOptions(shift_tasks=shifts, baseline=PAIRS, compare_ensemble=True)

    def patch(**changes):
        return patch_single(model_folder, task, [other], args, alphas=ALPHAS, options=replace(options, **changes))

    return folder / "run", task, patch, patch()


def records(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def correct_of(folder, name, alpha, task):
    [found] = [r for r in records(folder, name) if (r["alpha"], r["task"], r["split"]) == (alpha, task, "test")]
    correct = np.load(folder / found["examples"])
    assert (correct.sum(), len(correct)) == (found["correct"], found["total"])
    return correct


@torch.no_grad()
def logits_of(model_path, task, corruption):
    """The logits of a saved model on the test images of the task, from plain transformers."""
    model, processor = CLIPModel.from_pretrained(model_path).eval(), CLIPProcessor.from_pretrained(model_path)
    images = [corruption(i) if corruption else i for i in Dataset.from_parquet(task.data_files["test"])["image"]]
    texts = [f"a photo of a {name}." for name in ("red", "green", "blue", "grey")]
    return model(**processor(text=texts, images=images, return_tensors="pt", padding=True)).logits_per_image.double()


@pytest.mark.parametrize("name", ["", "noise", "contrast"])
def test_the_ensemble_is_the_mixture_of_plain_logits(run, model_folder, name):
    folder, task, _, _ = run
    corruption, shown = (Corruption(name=name, severity=5), f"colours-{name}-5") if name else (None, "colours")
    logits_0, logits_1 = (logits_of(path, task, corruption) for path in (model_folder, folder / "theta_1"))
    labels = torch.tensor(Dataset.from_parquet(task.data_files["test"])["label"])
    for alpha in ALPHAS:
        mixed = (1 - alpha) * logits_0 + alpha * logits_1
        top = mixed.topk(2).values
        clear = (top[:, 0] - top[:, 1] > 1e-4).numpy()
        found = correct_of(folder, "ensemble.jsonl", alpha, shown)
        assert clear.sum() > 55
        assert (found == (mixed.argmax(dim=1) == labels).numpy())[clear].all()
        [record] = [
            r for r in records(folder, "ensemble.jsonl")
            if r["alpha"] == alpha and r["split"] == "test" and r["task"] == shown
        ]  # fmt: skip
        loss = float(torch.nn.functional.cross_entropy(mixed, labels))
        assert record["loss"] == pytest.approx(loss, abs=1e-4)


def test_the_ensemble_has_records_of_its_own(run):
    folder, *_ = run
    weights, ensemble = (records(folder, name) for name in ("results.jsonl", "ensemble.jsonl"))
    assert not any(r["weights"].startswith("ensemble-") for r in weights)
    assert all(r["weights"].startswith("ensemble-") for r in ensemble)
    assert not {r["examples"] for r in weights} & {r["examples"] for r in ensemble}
    measures = ("correct", "total", "loss", "ece", "mean_per_class", "head", "data", "rows", "precision")
    for alpha in (0.0, 1.0):  # there both are the same model
        sides = [
            {(r["task"], r["split"]): [r[m] for m in measures] for r in side if r["alpha"] == alpha}
            for side in (weights, ensemble)
        ]
        assert sides[0] == sides[1]
    assert len(weights) == len(ensemble)


def test_the_table_is_the_formula(run):
    folder, _, _, result = run
    shifts = ("colours-noise-5", "colours-contrast-5")
    report = json.loads((folder / "robustness.json").read_text())
    for side, name in (("weights", "results.jsonl"), ("ensemble", "ensemble.jsonl")):
        assert [row["alpha"] for row in report[side]["rows"]] == list(ALPHAS)
        zero_shot = [correct_of(folder, name, 0.0, task) for task in shifts]
        for row in report[side]["rows"]:
            reference = correct_of(folder, name, row["alpha"], "colours")
            shifted = [correct_of(folder, name, row["alpha"], task) for task in shifts]
            assert row["reference"] == pytest.approx(reference.mean())
            shift = (shifted[0].mean() + shifted[1].mean()) / 2
            assert row["shift"] == pytest.approx(shift)
            assert row["relative"] == pytest.approx(shift - (zero_shot[0].mean() + zero_shot[1].mean()) / 2)
            assert row["effective"] == pytest.approx(shift - beta(reference.mean())[0])
            draws = np.random.default_rng(1).integers(60, size=(4000, 60))  # the same images for every task
            drawn = (shifted[0][draws].mean(1) + shifted[1][draws].mean(1)) / 2
            before = (zero_shot[0][draws].mean(1) + zero_shot[1][draws].mean(1)) / 2
            effective = drawn - beta(reference[draws].mean(1))
            for values, key in ((drawn - before, "relative_interval"), (effective, "effective_interval")):
                assert row[key] == pytest.approx(list(np.quantile(values, [0.025, 0.975])), abs=0.02)
    table = robustness_table(result.curve, baseline=PAIRS)
    assert json.loads(json.dumps(table.to_dict())) == report["weights"]
    assert json.loads(json.dumps(RobustnessTable.from_dict(report["weights"]).to_dict())) == report["weights"]
    ensemble = AlphaCurve.from_run(folder, name="ensemble.jsonl")
    assert robustness_table(ensemble, reference="colours", baseline=PAIRS) == robustness_table(
        ensemble, baseline=PAIRS
    )


def test_the_report_has_the_scatter_and_the_ensemble(run):
    folder = run[0]
    found = checked_report(folder)["runs"][0]
    check_page(folder, found)
    stored, scatter = json.loads((folder / "robustness.json").read_text()), found["scatter"]
    assert scatter["x"] == [row["reference"] for row in stored["weights"]["rows"]]
    assert scatter["effective"] == pytest.approx(np.subtract(scatter["y"], beta(scatter["x"])))
    assert scatter["ensemble"] == [(row["reference"], row["shift"]) for row in stored["ensemble"]["rows"]]
    intercept, slope = scatter["baseline"]
    assert 1 / (1 + math.exp(-(slope * logit(0.7) + intercept))) == pytest.approx(beta(0.7)[0])
    for alpha, pair in zip(ALPHAS, found["ensemble"], strict=True):
        right = [correct_of(folder, "ensemble.jsonl", alpha, task).mean() for task in ("others", "colours")]
        assert pair == pytest.approx(tuple(right))


def test_card_and_plots(run):
    folder, _, _, result = run
    card = (folder / "patched" / "README.md").read_text()
    section = card.split("## Robustness under distribution shift")[1].split("\n## ")[0]
    assert "2 distribution shifts (test images)" in section
    assert "{" not in section
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert rows[0] == "| alpha | reference | mean of shifts | relative robustness | effective robustness |"
    report = json.loads((folder / "robustness.json").read_text())
    bold = [line for line in rows if line.startswith("| **")]
    assert bold[0].startswith(f"| **{result.alpha:.2f}** |")
    assert len(rows) == 2 * (2 + len(ALPHAS))
    row = report["ensemble"]["rows"][1]
    assert (
        f"| 0.30 | {100 * row['reference']:.2f} | {100 * row['shift']:.2f} | {100 * row['relative']:+.2f} (" in section
    )
    for name in ("robustness.png", "curve.png"):
        assert (folder / "patched" / name).read_bytes() == (folder / name).read_bytes()
        assert f"]({name})" in card
    assert CardSource.from_run(RunFolder(folder, write=False)).robustness == report


def test_running_again_computes_nothing_and_may_change_the_baseline(run, monkeypatch):
    folder, _, patch, first = run
    before = {name: (folder / name).read_bytes() for name in ("results.jsonl", "ensemble.jsonl", "robustness.json")}
    logits = Evaluator.logits

    def only_examples(*given, indices=None):
        return pytest.fail("evaluated again") if indices is None else logits(*given, indices=indices)

    monkeypatch.setattr(Evaluator, "predict", lambda *_, **__: pytest.fail("evaluated again"))
    monkeypatch.setattr(Evaluator, "logits", only_examples)
    assert patch(baseline=((0.2, 0.1), (0.9, 0.8))).alpha == first.alpha
    assert (folder / "results.jsonl").read_bytes() == before["results.jsonl"]
    assert (folder / "ensemble.jsonl").read_bytes() == before["ensemble.jsonl"]
    assert (folder / "robustness.json").read_bytes() != before["robustness.json"]
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["baseline"] == [[0.2, 0.1], [0.9, 0.8]]
    patch()
    assert (folder / "robustness.json").read_bytes() == before["robustness.json"]


def test_the_resolved_recipe_runs_again(run, capsys):
    folder, *_ = run
    recipe, _ = parse_recipe(str(folder / "recipe.yaml"), [])
    assert read_baseline(recipe.baseline) == PAIRS
    assert recipe.compare_ensemble
    run_recipe(str(folder / "recipe.yaml"), [])
    assert "colours-noise-5 (shift)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "form", ["[[0.3, 0.25], [0.5, 0.4], [0.8, 0.6]]", "- [0.3, 0.25]\n- [0.5, 0.4]\n- [0.8, 0.6]\n"]
)
def test_a_baseline_can_be_a_file(tmp_path, form):
    (tmp_path / "baseline.yaml").write_text(form)
    assert read_baseline([str(tmp_path / "baseline.yaml")]) == PAIRS
    assert read_baseline([[0.3, 0.25], "[0.5, 0.4]", (0.8, 0.6)]) == PAIRS
    assert read_baseline([]) == ()


@pytest.mark.parametrize("entries", [["nowhere.yaml"], ["[0.5]"], ["[a, b]"], ["0.5", "0.4"]])
def test_wrong_baselines(entries):
    with pytest.raises(InputError, match=r"`baseline` must be a list of \[reference, shift\] accuracies"):
        read_baseline(entries)


def result(alpha, role, task, correct, **keys):
    return Result(alpha=alpha, role=role, task=task, split="test", correct=correct, total=100, **keys)


def test_without_a_baseline_or_examples():
    curve = AlphaCurve(
        [
            result(alpha, role, task, correct)
            for alpha, counts in ((0.0, (60, 50, 40)), (1.0, (90, 60, 20)))
            for (role, task), correct in zip([("patching", "a"), ("shift", "b"), ("shift", "c")], counts, strict=True)
        ]
    )
    table = robustness_table(curve)
    assert [(r.reference, r.shift, r.effective, r.relative_interval) for r in table.rows] == [
        (0.6, 0.45, None, None),
        (0.9, 0.4, None, None),
    ]
    assert table.to_markdown(selected=1.0).splitlines()[2:] == [
        "| 0.00 | 60.00 | 45.00 | +0.00 |",
        "| **1.00** | **90.00** | **40.00** | **-5.00** |",
    ]
    assert [r.reference for r in robustness_table(curve, reference="c").rows] == [0.4, 0.2]


def test_what_is_not_exact_says_so():
    counts = {0.0: (60, 40), 0.5: (70, 50), 1.0: (80, 30)}
    curve = AlphaCurve(
        [
            result(alpha, role, role, correct, exact=alpha != 0.5 or role == "patching")
            for alpha, pair in counts.items()
            for role, correct in zip(("patching", "shift"), pair, strict=True)
        ]
    )
    table = robustness_table(curve)
    assert [row.exact for row in table.rows] == [True, False, True]
    assert table.to_markdown(selected=0.5).splitlines()[3] == "| **0.50** | **~70.00** | **~50.00** | **~+10.00** |"
    assert RobustnessTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_coefficients_round_trip_and_are_drawn():
    mixture = Coefficients({"a": 0.3, "b": 0.2})
    points = ((0.0, (0, 50)), (mixture, (70, 100)))  # 0 and 1 have no place on a logit scale
    curve = AlphaCurve(
        [
            result(alpha, role, role, correct)
            for alpha, counts in points
            for role, correct in zip(("patching", "shift"), counts, strict=True)
        ]
    )
    table = robustness_table(curve, baseline=PAIRS)
    assert RobustnessTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table
    assert "| **a 0.30, b 0.20** | **70.00** | **100.00** |" in table.to_markdown(selected=mixture)
    plot = draw_scatter(Shown(curve=curve, split="test", selected=mixture), table)
    assert {text.get_text() for text in plot.axes[0].texts} == {"zero-shot", "chosen", "baseline"}


def test_tasks_of_other_images_are_drawn_by_themselves(tmp_path):
    generator = np.random.default_rng(3)
    sides, results = {}, []
    for alpha in (0.0, 1.0):
        for role, task, share in (("patching", "a", 0.7), ("shift", "b", 0.5), ("shift", "c", 0.6)):
            sides[alpha, task] = generator.random(100) < share + 0.1 * alpha
            np.save(tmp_path / f"{task}{alpha}.npy", sides[alpha, task])
            count = int(sides[alpha, task].sum())
            results.append(
                result(alpha, role, task, count, rows_fingerprint=f"rows of {task}", correct_file=f"{task}{alpha}.npy")
            )
    row = robustness_table(AlphaCurve(results, folder=tmp_path), baseline=PAIRS).rows[1]
    a, b, c = generator.integers(100, size=(3, 4000, 100))
    drawn = (sides[1.0, "b"][b].mean(1) + sides[1.0, "c"][c].mean(1)) / 2
    before = (sides[0.0, "b"][b].mean(1) + sides[0.0, "c"][c].mean(1)) / 2
    assert row.relative_interval == pytest.approx(tuple(np.quantile(drawn - before, [0.025, 0.975])), abs=0.01)
    effective = drawn - beta(sides[1.0, "a"][a].mean(1))
    assert row.effective_interval == pytest.approx(tuple(np.quantile(effective, [0.025, 0.975])), abs=0.01)


def test_the_reference_is_of_the_tasks_that_have_test_images():
    points = [("patching", "a", 60, "test"), ("patching", "b", 10, "validation"), ("shift", "c", 40, "test")]
    curve = AlphaCurve([replace(result(0.0, role, task, n), split=split) for role, task, n, split in points])
    table = robustness_table(curve)
    assert (table.reference_tasks, table.reference_split) == (["a"], "test")
    assert [row.reference for row in table.rows] == [0.6]


def test_curves_that_have_no_table():
    with pytest.raises(InputError, match="Robustness needs shift tasks"):
        robustness_table(AlphaCurve([result(0.0, "patching", "a", 50)]))
    curve = AlphaCurve([result(0.0, "patching", "mnist", 50), result(0.0, "shift", "b", 50)])
    with pytest.raises(InputError, match="no task 'mnsit'. Did you mean 'mnist'"):
        robustness_table(curve, reference="mnsit")
    with pytest.raises(InputError, match="or alpha 0 lacks some of them"):
        robustness_table(AlphaCurve([result(1.0, "patching", "a", 50), result(1.0, "shift", "b", 50)]))


def test_options_are_refused_before_training(task, other_task, model_folder, tmp_path):
    args = PaintTrainingArguments(output_dir=str(tmp_path / "run"), max_steps=2, warmup_steps=1, use_cpu=True)
    with pytest.raises(InputError, match="it needs `shift_tasks`"):
        patch_single(model_folder, task, [other_task], args, options=PatchOptions(baseline=PAIRS))
    shifts = corrupted(task, severities=[1])
    with pytest.raises(InputError, match="at least two models"):
        options = PatchOptions(baseline=PAIRS[:1], shift_tasks=shifts)
        patch_single(model_folder, task, [other_task], args, options=options)
    with pytest.raises(InputError, match="`compare_ensemble` compares along the line .* got `parallel`"):
        patch_parallel(model_folder, [task], [other_task], args, options=PatchOptions(compare_ensemble=True))
    with pytest.raises(InputError, match="remove `extrapolate`"):
        options = PatchOptions(compare_ensemble=True, extrapolate=True)
        patch_single(model_folder, task, [other_task], args, options=options)
    assert not (tmp_path / "run").exists()


def test_two_forward_passes_serve_every_alpha(task, model, processor):
    theta_0 = image_tower_weights(model)
    theta_1 = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in theta_0.items()}
    prepared = prepare_task(task, model, processor, splits=("test",))
    evaluator = CountingEvaluator(Accelerator(cpu=True))
    alphas = [0.1 * step for step in range(11)]
    curve = evaluate_ensemble(theta_0, theta_1, alphas, [prepared], model=image_tower(model), evaluator=evaluator)
    assert len(curve.alphas) == 11
    assert evaluator.num_images == 2 * len(prepared.images["test"])
