"""Details recorded by sweeps: of every kind of task and sweep, whatever the batches, interrupted or not."""

import json
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import confusion_matrix

from drawn_tasks import write_task
from hf_paint import AlphaCurve, Task, prepare_task, sweep_alphas, write_questions_task
from hf_paint.evaluation.adaptive_sweep import sweep_adaptively
from hf_paint.evaluation.ensembles import ensemble_logits, evaluate_ensemble
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import outputs
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.results.details_log import RunDetails
from hf_paint.results.result_log import ResultLog
from hf_paint.tasks.scenes import SceneStyle
from scenes_of_colours import write_scenes


ALPHAS = [0.0, 0.5, 1.0]
SAMPLED = 13


@pytest.fixture(scope="module")
def line(model_folder, tmp_path_factory):
    """theta_0, theta_1 and the tower of a model, and tasks with classes, several labels, and questions."""
    folder = tmp_path_factory.mktemp("line")
    model, processor, _ = load_clip(model_folder)
    generator = torch.Generator().manual_seed(1)
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    theta_1 = {name: x + 0.03 * torch.randn(x.shape, generator=generator) for name, x in theta_0.items()}
    style = SceneStyle(image_size=32, radius=(0.09, 0.15))
    asked = write_questions_task(folder, sizes={"train": 4, "validation": 4, "test": 20}, style=style).to_dict()
    tasks = [
        write_task(folder, test=30),
        write_scenes(folder, test=30),
        Task.from_dict(asked | {"prompt": "{answer} {question}"}),
        write_task(folder, "unsplit", seed=7, splits={"train": "train", "validation": "test", "test": None}),
    ]
    prepared = [prepare_task(task, model, processor, cache_dir=folder / "cache") for task in tasks]
    return theta_0, theta_1, prepared, image_tower(model)


@pytest.fixture(autouse=True)
def _small_samples(monkeypatch):
    monkeypatch.setattr("hf_paint.results.details.SAMPLE_SIZE", SAMPLED)


def run(sweep, line, folder, alphas=ALPHAS, batch_size=128, tasks=slice(None)):
    theta_0, theta_1, prepared, tower = line
    evaluator = Evaluator(Accelerator(cpu=True), batch_size=batch_size)
    log = ResultLog(folder)
    return sweep(theta_0, theta_1, alphas, prepared[tasks], model=tower, log=log, evaluator=evaluator)


@pytest.fixture(scope="module")
def swept(line, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_paint.results.details.SAMPLE_SIZE", SAMPLED)
        return run(sweep_alphas, line, folder)


def logits_at(line, alpha, task, split):
    """Logits and labels at an alpha, as arrays."""
    theta_0, theta_1, _, tower = line
    tower.load_state_dict({name: (1 - alpha) * x + alpha * theta_1[name] for name, x in theta_0.items()}, strict=False)
    logits, labels = Evaluator(Accelerator(cpu=True)).logits(tower, task, split)
    return logits.double().numpy(), labels.numpy().reshape(len(logits), -1)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_details_are_those_of_the_logits(line, swept, alpha):
    read = RunDetails.of_run(swept.folder)
    for task in line[2]:
        for split, images in task.images.items():
            found = read.of(swept.get(alpha, task.role, task.task.name, split))
            logits, labels = logits_at(line, alpha, task, split)
            counted = [row for row, own in enumerate(labels.tolist()) if own[0] >= 0]
            best = logits.argmax(axis=1)
            first = labels[counted, 0]
            predicted = [labels[row][0] if best[row] in labels[row] else best[row] for row in counted]
            if images.choices is None:
                matrix = np.zeros((4, 4), dtype=int)
                matrix[found.confusion.classes, found.confusion.predicted] = found.confusion.images
                assert np.array_equal(matrix, confusion_matrix(first, predicted, labels=range(4)))
            else:
                assert found.confusion is None
            assert found.calibration.correct.sum() == swept.get(alpha, task.role, task.task.name, split).correct
            assert found.calibration.ece == pytest.approx(swept.get(alpha, task.role, task.task.name, split).ece)
            if split != ("validation" if task.task.name == "unsplit" else "test"):
                assert found.answers is None
                continue
            answers = found.answers
            assert len(answers.images) == min(SAMPLED, len(counted))
            assert set(answers.images) <= set(counted)
            likely = np.exp(logits - logits.max(axis=1, keepdims=True))
            likely /= likely.sum(axis=1, keepdims=True)
            for row in answers.images.tolist():
                expected = sorted(likely[row][np.isfinite(logits[row])], reverse=True)[:3]
                assert [p for _, p in answers.of(row)] == pytest.approx(expected, abs=2e-5)
                assert [likely[row][candidate] for candidate, _ in answers.of(row)] == pytest.approx(
                    expected, abs=2e-5
                )


def test_a_class_has_the_same_images_at_every_alpha(line, swept):
    """Or else a class could be right more often than it has images, where images have several classes."""
    read = RunDetails.of_run(swept.folder)
    for task in line[2]:
        for split, images in task.images.items():
            found = [read.of(swept.get(alpha, task.role, task.task.name, split)) for alpha in ALPHAS]
            if images.choices is None:
                totals = [details.confusion.total(4).tolist() for details in found]
                assert totals == totals[:1] * len(ALPHAS)


def test_the_sample_is_the_same_at_every_alpha_and_batch_size(line, swept, tmp_path):
    other = run(sweep_alphas, line, tmp_path, batch_size=7)
    read, again = (RunDetails.of_run(curve.folder) for curve in (swept, other))
    samples = {}
    for result in other.results:
        one, two = read.of(swept.get(result.alpha, result.role, result.task, result.split)), again.of(result)
        assert (one.answers is None) == (two.answers is None)
        if one.answers is not None:
            first = samples.setdefault(result.task, one.answers.images)
            assert np.array_equal(one.answers.images, first)
            assert np.array_equal(two.answers.images, first)
            assert np.abs(one.answers.probabilities - two.answers.probabilities).max() < 1e-4
    assert len(samples) == 4


def test_interrupted_equals_uninterrupted(line, swept, tmp_path):
    whole = (swept.folder / "details.jsonl").read_text()
    lines, records = whole.splitlines(True), (swept.folder / "results.jsonl").read_text().splitlines(True)
    assert len(lines) == len(records) == len(swept.results)
    for number, (complete, torn, recorded) in enumerate([(4, "", 4), (5, "", 4), (4, lines[4][:-1], 4), (0, "", 0)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copytree(swept.folder / "correct", folder / "correct")
        (folder / "details.jsonl").write_text("".join(lines[:complete]) + torn)
        (folder / "results.jsonl").write_text("".join(records[:recorded]))
        run(sweep_alphas, line, folder)
        assert (folder / "details.jsonl").read_text() == whole
        assert (folder / "results.jsonl").read_text() == "".join(records)


def test_equal_weights_share_their_details(line, tmp_path):
    theta_0, _, prepared, tower = line
    curve = run(sweep_alphas, (theta_0, theta_0, prepared, tower), tmp_path)
    read = RunDetails.of_run(tmp_path)
    found = [read.of(result) for result in curve.results]
    assert len((tmp_path / "details.jsonl").read_text().splitlines()) == len({result.key for result in curve.results})
    assert len({result.key for result in curve.results}) < len(curve.results)
    assert None not in found


def test_adaptive_sweeps_record_what_they_evaluate_on_all_images(line, tmp_path):
    alphas = [step / 20 for step in range(21)]
    curve = run(sweep_adaptively, line, tmp_path, alphas, tasks=slice(1, 3))
    exact = [result for result in curve.results if result.exact]
    whole = (tmp_path / "details.jsonl").read_text()
    assert 0 < len(exact) == len(whole.splitlines()) < len(curve.results)
    read = RunDetails.of_run(tmp_path)
    assert [read.of(result) is not None for result in curve.results] == [result.exact for result in curve.results]
    run(sweep_adaptively, line, tmp_path, alphas, tasks=slice(1, 3))
    assert (tmp_path / "details.jsonl").read_text() == whole


def test_ensembles_have_details_of_their_own(line, swept, tmp_path):
    shutil.copytree(swept.folder, tmp_path / "run")
    theta_0, theta_1, prepared, tower = line
    log = ResultLog(tmp_path / "run", name="ensemble.jsonl")
    evaluate_ensemble(theta_0, theta_1, ALPHAS, prepared[:1], model=tower, log=log)
    read = RunDetails.of_run(tmp_path / "run")
    of_weights = AlphaCurve.from_run(tmp_path / "run").get(0.5, "supported", "colours", "test")
    of_outputs = AlphaCurve.from_run(tmp_path / "run", name="ensemble.jsonl").get(0.5, "supported", "colours", "test")
    (logits_0, _), (logits_1, _) = (logits_at(line, alpha, prepared[0], "test") for alpha in (0.0, 1.0))
    mixed = ensemble_logits(torch.tensor(logits_0), torch.tensor(logits_1), 0.5).softmax(dim=-1).numpy()
    answers, others = read.of(of_outputs).answers, read.of(of_weights).answers
    assert answers.probabilities[:, 0] == pytest.approx(mixed.max(axis=1)[answers.images], abs=2e-5)
    assert np.abs(answers.probabilities - others.probabilities).max() > 1e-3


def test_equal_candidates_keep_their_order():
    """Two classes may have the same prompts; what is predicted is the first of them, and so is the first candidate."""
    logits = torch.tensor([[1.0, 3.0, 3.0, 3.0, 0.0], [5.0, 5.0, -torch.inf, -torch.inf, -torch.inf]])
    columns = outputs(logits.repeat(40, 1), torch.zeros(80, dtype=torch.int64))
    assert columns["candidates"][:2].tolist() == [[1, 2, 3], [0, 1, -1]]
    assert torch.equal(columns["candidates"][0::2], columns["candidates"][:1].expand(40, 3))
    assert torch.equal(columns["candidates"][:, 0], logits.repeat(40, 1).argmax(dim=-1))
    few = outputs(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    assert few["candidates"].tolist() == [[1, 0]]
    assert few["probabilities"].sum() == pytest.approx(1)


def test_a_line_says_what_it_belongs_to(swept):
    line = json.loads((swept.folder / "details.jsonl").read_text().splitlines()[0])
    result = swept.results[0]
    for name in ("alpha", "task", "role", "split", "weights", "head", "data", "precision"):
        assert line[name] == getattr(result, name)
    assert sum(line["bins"]["images"]) == result.total
