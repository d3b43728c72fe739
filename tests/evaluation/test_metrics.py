import numpy as np
import pytest

from hf_paint.evaluation import metrics


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


def test_cross_entropy_equals_torch():
    import torch

    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS))
    assert metrics.cross_entropy(LOG_PROBABILITIES, LABELS) == pytest.approx(float(expected))


def test_calibration_error_equals_the_written_out_sum():
    correct = PREDICTED == LABELS
    expected = calibration_error_written_out(CONFIDENCE, correct)
    assert metrics.expected_calibration_error(CONFIDENCE, correct) == pytest.approx(expected)
    assert metrics.expected_calibration_error([1.0, 0.0], [True, False]) == 0.0


def test_metrics_work_offline_and_equal_the_functions():
    arrays = {"references": LABELS, "predictions": PREDICTED}
    assert metrics.Accuracy().compute(**arrays)["accuracy"] == metrics.accuracy(PREDICTED, LABELS)
    per_class = metrics.MeanPerClassAccuracy().compute(**arrays)["mean_per_class_accuracy"]
    assert per_class == metrics.mean_per_class_accuracy(PREDICTED, LABELS)
    loss = metrics.CrossEntropy().compute(log_probabilities=LOG_PROBABILITIES, references=LABELS)
    assert loss["cross_entropy"] == pytest.approx(metrics.cross_entropy(LOG_PROBABILITIES, LABELS))
    ece = metrics.ExpectedCalibrationError().compute(confidences=CONFIDENCE, **arrays)
    expected = metrics.expected_calibration_error(CONFIDENCE, PREDICTED == LABELS)
    assert ece["expected_calibration_error"] == pytest.approx(expected)


def test_batches_add_up():
    metric = metrics.Accuracy()
    metric.add_batch(predictions=PREDICTED[:50], references=LABELS[:50])
    metric.add_batch(predictions=PREDICTED[50:], references=LABELS[50:])
    assert metric.compute()["accuracy"] == metrics.accuracy(PREDICTED, LABELS)
