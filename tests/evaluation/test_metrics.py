import evaluate
import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from hf_paint.evaluation import metrics
from hf_paint.evaluation.predictions import predictions_from_logits


RNG = np.random.default_rng(0)
LABELS = RNG.integers(5, size=200)
LOGITS = RNG.normal(size=(200, 5)) + 2 * np.eye(5)[LABELS]
LOG_PROBABILITIES = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
PREDICTED = LOGITS.argmax(axis=1)
CONFIDENCE = np.exp(LOG_PROBABILITIES).max(axis=1)


def calibration_error_written_out(confidence, correct, num_bins=15):
    error = 0.0
    for low in np.arange(num_bins) / num_bins:
        inside = [i for i, c in enumerate(confidence) if low < c <= low + 1 / num_bins]
        if inside:
            gap = np.mean([confidence[i] for i in inside]) - np.mean([correct[i] for i in inside])
            error += len(inside) / len(confidence) * abs(gap)
    return error


def test_mean_per_class_equals_balanced_accuracy():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    expected = sklearn_metrics.balanced_accuracy_score(LABELS, PREDICTED)
    assert metrics.mean_per_class_accuracy(PREDICTED, LABELS) == pytest.approx(expected)


def test_mean_per_class_ignores_classes_without_images():
    assert metrics.mean_per_class_accuracy([4, 4], [4, 4]) == 1.0


def test_mean_loss_of_predictions_equals_torch():
    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS))
    predictions = predictions_from_logits(torch.tensor(LOGITS), torch.tensor(LABELS))
    assert metrics.mean_loss(predictions.loss) == pytest.approx(float(expected))
    assert metrics.mean_loss(np.full(10**6, 0.1, dtype=np.float32)) == pytest.approx(np.float32(0.1), abs=1e-12)


def test_calibration_error_equals_the_written_out_sum():
    correct = PREDICTED == LABELS
    expected = calibration_error_written_out(CONFIDENCE, correct)
    assert metrics.expected_calibration_error(CONFIDENCE, correct) == pytest.approx(expected)
    assert metrics.expected_calibration_error([1.0, 0.0], [True, False]) == 0.0


def test_metrics_work_offline_and_equal_the_functions():
    arrays = {"references": LABELS, "predictions": PREDICTED}
    expected = {"accuracy": metrics.accuracy(PREDICTED, LABELS), "correct": (PREDICTED == LABELS).sum(), "total": 200}
    assert metrics.Accuracy().compute(**arrays) == expected
    per_class = metrics.MeanPerClassAccuracy().compute(**arrays)["mean_per_class"]
    assert per_class == metrics.mean_per_class_accuracy(PREDICTED, LABELS)
    assert metrics.MeanLoss().compute(losses=-LOG_PROBABILITIES.max(axis=1))["loss"] == metrics.mean_loss(
        -LOG_PROBABILITIES.max(axis=1)
    )
    error = metrics.MeanAbsoluteError().compute(**arrays)["mean_absolute_error"]
    assert error == metrics.mean_absolute_error(PREDICTED, LABELS)
    ece = metrics.ExpectedCalibrationError().compute(confidences=CONFIDENCE, **arrays)["ece"]
    assert ece == metrics.expected_calibration_error(CONFIDENCE, PREDICTED == LABELS)


def test_batches_add_up():
    metric = metrics.Accuracy()
    metric.add(prediction=PREDICTED[0], reference=LABELS[0])
    metric.add_batch(predictions=PREDICTED[1:50], references=LABELS[1:50])
    metric.add_batch(predictions=PREDICTED[50:], references=torch.tensor(LABELS[50:]))
    assert len(metric) == 200
    assert metric.compute()["accuracy"] == metrics.accuracy(PREDICTED, LABELS)
    assert len(metric) == 0


def test_evaluate_combine_takes_the_metrics():
    combined = evaluate.combine(
        [metrics.Accuracy(), metrics.MeanLoss(), metrics.ExpectedCalibrationError(), metrics.MeanPerClassAccuracy()]
    )
    columns = {"predictions": PREDICTED, "references": LABELS, "confidences": CONFIDENCE, "losses": CONFIDENCE}
    scores = combined.compute(**columns)
    assert scores.keys() == {"accuracy", "correct", "total", "loss", "ece", "mean_per_class"}
    assert scores["mean_per_class"] == metrics.mean_per_class_accuracy(PREDICTED, LABELS)
    for half in (slice(0, 80), slice(80, 200)):
        combined.add_batch(**{name: column[half] for name, column in columns.items()})
    assert combined.compute() == scores


def test_a_trainer_takes_the_metrics(tmp_path):
    combined = evaluate.combine([metrics.Accuracy(), metrics.MeanPerClassAccuracy()])
    rows = [
        {"inputs": torch.tensor(row, dtype=torch.float32), "labels": label}
        for row, label in zip(LOGITS, LABELS.tolist(), strict=True)
    ]
    trainer = Trainer(
        _Identity(),
        TrainingArguments(tmp_path, use_cpu=True, report_to=[], per_device_eval_batch_size=64),
        eval_dataset=rows,
        compute_metrics=lambda found: combined.compute(
            predictions=found.predictions.argmax(axis=-1), references=found.label_ids
        ),
    )
    scores = trainer.evaluate()
    assert scores["eval_accuracy"] == metrics.accuracy(PREDICTED, LABELS)
    assert scores["eval_mean_per_class"] == metrics.mean_per_class_accuracy(PREDICTED, LABELS)


class _Identity(torch.nn.Module):
    """A classifier whose inputs are its logits."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, labels):
        logits = self.scale * inputs
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_metrics_touch_no_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "cache"))
    metrics.Accuracy().compute(predictions=PREDICTED, references=LABELS)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"predictions": [0, 1]}, r"missing: \['references'\]"),
        ({"predictions": [0, 1], "references": [0]}, "must have the same length, got"),
        ({}, "at least one image"),
    ],
)
def test_bad_inputs_of_a_metric_are_named(columns, message):
    with pytest.raises(ValueError, match=message):
        metrics.Accuracy().compute(**columns)
    with pytest.raises(ValueError, match=r"unknown: \['losses'\]"):
        metrics.Accuracy().add_batch(predictions=[0], references=[0], losses=[0.1])
