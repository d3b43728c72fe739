import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from drawn_tasks import write_task
from hf_paint import InputError, evaluate_tasks, prepare_task, sweep_alphas
from hf_paint.data.images import CachedImages
from hf_paint.evaluation import evaluator as evaluator_module
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.merging.interpolation import interpolate
from hf_paint.models.compilation import compile_blocks
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.results.result_log import ResultLog
from waits import Waits


def moved(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    return theta_0, {n: t + 0.02 * torch.randn(t.shape, generator=generator) for n, t in theta_0.items()}


def correct_written_out(model, processor, task):
    """One image at a time through the model's own forward pass."""
    from datasets import Dataset

    rows = Dataset.from_parquet(task.data_files["test"])
    prompts = [task.templates[0].format(name) for name in rows.features["label"].names]
    correct = 0
    for row in rows:
        inputs = processor(text=prompts, images=row["image"], return_tensors="pt", padding=True)
        with torch.no_grad():
            correct += int(model(**inputs).logits_per_image.argmax() == row["label"])
    return correct


@pytest.mark.parametrize("batch_size", [7, 40, 128])
def test_counts_equal_one_image_at_a_time(model, processor, task, batch_size):
    [result] = evaluate_tasks(model, [task], processor=processor, batch_size=batch_size)
    assert result.total == 40
    assert result.correct == correct_written_out(model, processor, task)


def test_loss_equals_torch(model, processor, task):
    prepared = prepare_task(task, model, processor, splits=("test",))
    predictions = Evaluator(Accelerator(cpu=True)).predict(image_tower(model), prepared, "test")
    pixels = prepared.transform.normalize(torch.from_numpy(prepared.images["test"].pixels.copy()))
    with torch.no_grad():
        logits = prepared.head(model.get_image_features(pixel_values=pixels).pooler_output)
    expected = torch.nn.functional.cross_entropy(logits, prepared.images["test"].labels)
    assert predictions.loss.mean() == pytest.approx(float(expected), abs=1e-6)
    assert predictions.predicted.tolist() == logits.argmax(-1).tolist()


def test_bf16_agrees_with_fp32_and_says_so(model, processor, task):
    [full] = evaluate_tasks(model, [task], processor=processor)
    [half] = evaluate_tasks(model, [task], processor=processor, precision="bf16")
    assert half.precision == "bf16"
    assert half.loss == pytest.approx(full.loss, abs=0.05)


def test_sweep_equals_evaluating_each_alpha_by_itself(model, processor, task, other_task, tmp_path):
    theta_0, theta_1 = moved(model)
    tasks = [
        prepare_task(task, model, processor, role="patching"),
        prepare_task(other_task, model, processor, splits=("test",)),
    ]
    curve = sweep_alphas(
        theta_0,
        theta_1,
        [0.5, 1.0],
        tasks,
        model=image_tower(model),
        log=ResultLog(tmp_path),
        evaluator=Evaluator(Accelerator(cpu=True)),
    )
    assert curve.alphas == (0.0, 0.5, 1.0)
    assert fingerprint_weights(image_tower_weights(model)) == fingerprint_weights(theta_0)
    assert curve.splits("patching") == {"validation", "test"}
    assert curve.splits("supported") == {"test"}
    for alpha in curve.alphas:
        model.load_state_dict(interpolate(theta_0, theta_1, alpha), strict=False)
        for role, one in (("patching", task), ("supported", other_task)):
            [expected] = evaluate_tasks(model, [one], processor=processor)
            found = curve.get(alpha, role, one.name, "test")
            assert (found.correct, found.total) == (expected.correct, expected.total)


def test_a_second_sweep_runs_nothing_that_is_known(model, processor, task, tmp_path, monkeypatch):
    theta_0, theta_1 = moved(model)
    tasks = [prepare_task(task, model, processor, role="patching", splits=("test",))]
    calls = []
    predict = Evaluator.predict
    monkeypatch.setattr(Evaluator, "predict", lambda *args, **keys: calls.append(args[-1]) or predict(*args, **keys))

    def sweep(alphas, theta_1=theta_1):
        options = {
            "model": image_tower(model),
            "log": ResultLog(tmp_path),
            "evaluator": Evaluator(Accelerator(cpu=True)),
        }
        return sweep_alphas(theta_0, theta_1, alphas, tasks, **options)

    first = sweep([0.5, 1.0])
    assert len(calls) == 3
    assert sweep([0.5, 1.0]).results == first.results
    assert len(calls) == 3
    sweep([0.25, 0.5])
    assert len(calls) == 4
    sweep([0.5], theta_1=moved(model, seed=2)[1])
    assert len(calls) == 5


def test_a_task_without_the_split_is_refused(model, processor, tmp_path):
    task = write_task(tmp_path, splits={"validation": None})
    with pytest.raises(InputError, match="none of the splits validation"):
        evaluate_tasks(model, [task], processor=processor, split="validation")


def test_a_model_that_has_diverged_is_refused(model, processor, task):
    with torch.no_grad():
        model.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="'visual_projection.weight' of the CLIPModel in memory holds NaN or inf"):
        evaluate_tasks(model, [task], processor=processor)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_sweep_is_the_same_and_is_not_compiled_again_for_each_alpha(model, processor, task):
    from torch._dynamo.utils import counters

    theta_0, theta_1 = moved(model)
    tasks = [prepare_task(task, model, processor, role="patching")]

    def sweep(alphas, *, compiled):
        evaluator = Evaluator(Accelerator(cpu=True), batch_size=20, compile=compiled)
        return sweep_alphas(theta_0, theta_1, alphas, tasks, model=image_tower(model), evaluator=evaluator)

    plain = sweep([0.2, 0.4, 0.6, 0.8, 1.0], compiled=False)
    before = counters["stats"]["unique_graphs"]
    compiled = sweep([0.2, 0.4, 0.6, 0.8, 1.0], compiled=True)
    assert 1 <= counters["stats"]["unique_graphs"] - before <= 2  # one for a full batch, one for the last
    assert [result.correct for result in compiled.results] == [result.correct for result in plain.results]
    assert [result.loss for result in compiled.results] == pytest.approx([r.loss for r in plain.results], abs=1e-4)


def test_one_graph_serves_all_tasks_splits_and_alphas(model, processor, task, other_task, monkeypatch):
    """The backend `eager` finds the graphs without compiling them. The last batch of a split has fewer images."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(evaluator_module, "compile_blocks", partial(compile_blocks, backend="eager"))
    theta_0, theta_1 = moved(model)
    tasks = [prepare_task(each, model, processor) for each in (task, other_task)]
    evaluator = Evaluator(Accelerator(cpu=True), batch_size=12, compile=True)
    assert all(len(images) % 12 for each in tasks for images in each.images.values())
    torch._dynamo.reset()
    counters.clear()
    curve = sweep_alphas(theta_0, theta_1, [0.3, 0.6, 1.0], tasks, model=image_tower(model), evaluator=evaluator)
    assert len(curve.results) == 4 * sum(len(each.images) for each in tasks)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("num_processes", [1, 2, 3, 7])
def test_processes_share_the_images_in_order(num_processes):
    rows, shares = [4, 8, 1, 0, 5], []
    for index in range(num_processes):
        accelerator = SimpleNamespace(num_processes=num_processes, process_index=index)
        shares.append(list(Evaluator(accelerator)._share(rows)))
    assert {len(share) for share in shares} == {-(-len(rows) // num_processes)}
    assert [row for share in shares for row in share][: len(rows)] == rows


def test_an_evaluation_waits_for_the_device_as_often_whatever_the_number_of_batches(model, processor, task):
    prepared, numbers = prepare_task(task, model, processor, splits=("test",)), []
    for batch_size in (40, 4):
        evaluator = Evaluator(Accelerator(cpu=True), batch_size=batch_size)
        with Waits() as waits:
            evaluator.predict(image_tower(model), prepared, "test")
        numbers.append(len(waits.found))
    assert numbers == [0, 0]


def test_pixels_are_read_once_for_all_alphas_if_the_device_has_room(model, processor, task, monkeypatch):
    tasks, reads = [prepare_task(task, model, processor, role="patching")], []
    batches = CachedImages.batches
    monkeypatch.setattr(CachedImages, "batches", lambda *args: reads.append(len(args[0])) or batches(*args))
    curves = []
    for room, expected in ((0, 3 * [8, 40]), (10**9, [8, 40])):
        reads.clear()
        monkeypatch.setattr("hf_paint.evaluation.evaluator.free_memory", lambda device, room=room: room)
        evaluator = Evaluator(Accelerator(cpu=True), batch_size=16)
        curves.append(sweep_alphas(*moved(model), [0.5, 1.0], tasks, model=image_tower(model), evaluator=evaluator))
        assert sorted(reads) == sorted(expected)
        assert evaluator._kept is None
    assert [r.loss for r in curves[0].results] == [r.loss for r in curves[1].results]


@pytest.mark.parametrize(("device", "size"), [("cpu", 128), ("cuda", 1024)])
def test_small_towers_evaluate_more_images_at_once_on_a_gpu(model, device, size):
    evaluator = Evaluator(SimpleNamespace(device=torch.device(device)))
    assert evaluator.images_at_once(image_tower(model)) == size  # 17 tokens per image
    model.config.vision_config.image_size = 224
    assert evaluator.images_at_once(image_tower(model)) == 128  # 785 tokens
    assert Evaluator(evaluator.accelerator, batch_size=7).images_at_once(image_tower(model)) == 7
