import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import CLIPModel, pipeline

from drawn_tasks import CLASS_NAMES, write_task
from hf_paint import InputError, PaintTrainer, PaintTrainingArguments, interpolate, patch_single, select_alpha
from hf_paint.data import splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.patching.options import PatchOptions
from hf_paint.results.curve import AlphaCurve
from hf_paint.weights.layers import IMAGE_TOWER
from patch_runs import arguments, weights


ALPHAS = [0.0, 0.3, 1.0]


@pytest.fixture(scope="module")
def run(model_folder, tmp_path_factory):
    """A finished run: its folder, tasks and result."""
    folder = tmp_path_factory.mktemp("patch")
    tasks = write_task(folder / "data"), write_task(folder / "data", "others", seed=7)
    options = PatchOptions(save_variants=True)
    args, rule = arguments(folder / "run"), {"alphas": ALPHAS, "selection": "mean"}
    result = patch_single(model_folder, tasks[0], [tasks[1]], args, options=options, **rule)
    return folder / "run", tasks, result


def test_run_folder_holds_what_is_promised(run):
    folder, _, result = run
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"recipe.yaml", "results.jsonl", "selection.json", "curve.png"} <= names
    for model in ("theta_1", "patched", "variants/alpha-0.00", "variants/alpha-0.30", "variants/alpha-1.00"):
        for file in ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json"):
            assert f"{model}/{file}" in names
    assert "patched/README.md" in names
    assert not [name for name in names if "partial" in name or (name.endswith(".bin") and "checkpoint" not in name)]
    assert result.run_folder == folder


def test_weights_are_the_interpolation(run, model_folder):
    folder, _, result = run
    theta_0, theta_1 = weights(model_folder), weights(folder / "theta_1")
    for alpha in ALPHAS:
        expected = interpolate(theta_0, theta_1, alpha)
        found = weights(folder / "variants" / f"alpha-{alpha:.2f}")
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    patched = weights(folder / "patched")
    assert all(torch.equal(patched[n], theta_0[n]) for n in theta_0 if not n.startswith(IMAGE_TOWER))
    assert all(torch.equal(patched[n], t) for n, t in result.model.state_dict().items())


def test_config_is_the_base_config(run, model_folder):
    base = json.loads((Path(model_folder) / "config.json").read_text())
    for model in ("theta_1", "patched"):
        assert without_dtype(json.loads((run[0] / model / "config.json").read_text())) == without_dtype(base)


def without_dtype(config):
    if not isinstance(config, dict):
        return config
    return {key: without_dtype(value) for key, value in config.items() if key != "dtype"}


def test_patched_model_is_used_without_us(run):
    classify = pipeline("zero-shot-image-classification", model=str(run[0] / "patched"))
    from drawn_tasks import draw_rows

    assert len(classify(draw_rows(1, 0)["image"][0], candidate_labels=["red", "a new word"])) == 2


def test_selection_is_the_rule_on_validation(run):
    folder, _, result = run
    curve = AlphaCurve.from_run(folder)
    selection = json.loads((folder / "selection.json").read_text())
    assert selection["alpha"] == result.alpha == curve.select("mean")
    assert (selection["rule"], selection["chosen_on"], selection["reported_on"]) == ("mean", "validation", "test")
    assert {gain["task"] for gain in selection["gains"]} == {"colours", "others"}
    assert all(gain["low"] <= gain["gain"] <= gain["high"] for gain in selection["gains"])


def test_records_and_examples(run):
    folder = run[0]
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert len(records) == len(ALPHAS) * 2 * 2
    assert {record["split"] for record in records} == {"validation", "test"}
    for record in records:
        correct = np.load(folder / record["examples"])
        assert (correct.sum(), len(correct)) == (record["correct"], record["total"])


def test_the_same_recipe_again_changes_nothing(run, model_folder, monkeypatch):
    folder, tasks, result = run
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(PaintTrainer, "train", None)
    monkeypatch.setattr(Evaluator, "predict", None)
    loaded, load = Counter(), splits._load_split
    monkeypatch.setattr(splits, "_load_split", lambda *a: loaded.update([(a[0].name, a[1])]) or load(*a))
    options = PatchOptions(save_variants=True)
    rule = {"alphas": ALPHAS, "selection": "mean"}
    again = patch_single(model_folder, tasks[0], [tasks[1]], arguments(folder), options=options, **rule)
    assert again.alpha == result.alpha
    assert loaded == {("colours", "train"): 1} | {
        (name, split): 1 for name in ("colours", "others") for split in ("validation", "test")
    }
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


GRID = [step / 20 for step in range(21)]


@pytest.mark.parametrize("verify", [False, True])
def test_adaptive_sweep_chooses_and_publishes_what_is_exact(run, model_folder, tmp_path, caplog, verify):
    _, tasks, _ = run
    caplog.set_level("INFO")
    options = PatchOptions(sweep="adaptive", verify=verify)
    args = arguments(tmp_path, learning_rate=3e-3)
    rule = {"alphas": GRID, "selection": "mean"}
    result = patch_single(model_folder, tasks[0], [tasks[1]], args, options=options, **rule)
    assert result.alpha in result.curve.exact_alphas
    assert ("were not exact. They were off by" in caplog.text) == verify
    assert len(result.curve.exact_alphas) == 21 if verify else 5 <= len(result.curve.exact_alphas) < 21
    selection = json.loads((tmp_path / "selection.json").read_text())
    again = AlphaCurve.from_run(tmp_path)
    assert selection["alpha"] == again.select("mean")
    assert selection["gains"][0]["gain"] == again.gains(result.alpha)[0].gain


def test_precision_is_decided_once_in_a_run(run, model_folder, tmp_path, monkeypatch):
    _, tasks, _ = run
    options = PatchOptions(precision="auto")
    result = patch_single(model_folder, tasks[0], [tasks[1]], arguments(tmp_path), alphas=ALPHAS, options=options)
    check = json.loads((tmp_path / "precision.json").read_text())
    assert check["num_images"] == 2 * (8 + 8)
    assert {record.precision for record in result.curve.results} == {check["precision"]}
    monkeypatch.setattr("hf_paint.evaluation.precision.compare_precisions", None)
    monkeypatch.setattr(Evaluator, "predict", None)
    again = patch_single(model_folder, tasks[0], [tasks[1]], arguments(tmp_path), alphas=ALPHAS, options=options)
    assert again.alpha == result.alpha


def test_another_recipe_is_refused_and_nothing_is_lost(run, model_folder):
    folder, tasks, _ = run
    before = (folder / "results.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"a different recipe.yaml .*learning_rate: 0.001 there, 0.002 here"):
        patch_single(model_folder, tasks[0], [tasks[1]], arguments(folder, learning_rate=2e-3), alphas=ALPHAS)
    assert (folder / "results.jsonl").read_bytes() == before


def test_more_alphas_may_be_added_and_logging_may_change(run, model_folder):
    folder, tasks, _ = run
    import shutil

    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    before = (copy / "results.jsonl").read_bytes()
    args = arguments(copy, logging_steps=1, dataloader_num_workers=1)
    options = PatchOptions(save_variants=True)
    patch_single(model_folder, tasks[0], [tasks[1]], args, alphas=[*ALPHAS, 0.7], options=options)
    after = (copy / "results.jsonl").read_bytes()
    assert after.startswith(before)
    assert len(after.splitlines()) == len(before.splitlines()) + 4
    assert yaml.safe_load((copy / "recipe.yaml").read_text())["alphas"] == [*ALPHAS, 0.7]


def test_an_edited_task_is_another_recipe(run, model_folder):
    from hf_paint import Task

    folder, tasks, _ = run
    edited = Task.from_dict(tasks[0].to_dict() | {"templates": ["one {}"]})
    options = PatchOptions(save_variants=True)
    with pytest.raises(InputError, match="a different recipe.yaml .patching_tasks"):
        patch_single(model_folder, edited, [tasks[1]], arguments(folder), alphas=ALPHAS, options=options)


def test_a_base_that_has_changed_is_refused(model_folder, task, other_task, tmp_path):
    options = PatchOptions(base_fingerprint="0123456789abcdef")
    with pytest.raises(InputError, match="The base has changed"):
        patch_single(model_folder, task, [other_task], arguments(tmp_path), options=options)


@pytest.mark.parametrize("part", ["checkpoint-5/trainer_state.json", "theta_1/config.json", "results.jsonl"])
def test_parts_of_a_run_without_a_recipe_are_refused(model_folder, task, other_task, tmp_path, part):
    (tmp_path / "run" / part).parent.mkdir(parents=True)
    (tmp_path / "run" / part).write_text("{}")
    with pytest.raises(InputError, match="contains parts of a run but no recipe.yaml"):
        patch_single(model_folder, task, [other_task], arguments(tmp_path / "run"))


def test_two_runs_in_one_folder_are_refused(model_folder, task, other_task, tmp_path):
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(InputError, match="Another process is using"):
        patch_single(model_folder, task, [other_task], arguments(tmp_path / "run"))
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_no_token_is_written(model_folder, task, other_task, tmp_path, capfd, caplog):
    keys = {"train_head": True, "head_steps": 2, "save_steps": 2, "report_to": "tensorboard"}
    args = arguments(tmp_path / "run", **keys).with_changes(hub_token="hf_secret")
    patch_single(model_folder, task, [other_task], args, alphas=[1.0])
    assert args.hub_token == "hf_secret"
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"training_args.bin", "recipe.yaml", "card.json", "README.md"} <= {path.name for path in files}
    assert any("tfevents" in path.name for path in files)
    assert not [path for path in files if b"hf_secret" in path.read_bytes()]
    printed = capfd.readouterr()
    assert "hf_secret" not in printed.out + printed.err + repr(args) + str(args) + caplog.text


def test_without_test_images_the_card_shows_validation_and_says_so(model_folder, tmp_path):
    splits = {"test": None}
    tasks = write_task(tmp_path, splits=splits), write_task(tmp_path, "others", seed=7, splits=splits)
    patch_single(model_folder, tasks[0], [tasks[1]], arguments(tmp_path / "run"), alphas=[1.0])
    card = (tmp_path / "run" / "patched" / "README.md").read_text()
    assert "measured on validation images" in card


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": None, "validation": "train"}, "no train split"),
        ({"validation": "train"}, "must differ from its train split"),
    ],
)
def test_a_task_that_cannot_be_trained_on_is_refused_first(model_folder, other_task, tmp_path, splits, message):
    task = write_task(tmp_path, splits=splits)
    with pytest.raises(InputError, match=message):
        patch_single(model_folder, task, [other_task], arguments(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_recipe_is_resolved(run, model_folder):
    recipe = yaml.safe_load((run[0] / "recipe.yaml").read_text())
    assert recipe["model"] == model_folder
    assert recipe["alphas"] == ALPHAS
    assert recipe["learning_rate"] == 1e-3
    assert recipe["patching_tasks"][0]["name"] == "colours"


def test_interrupted_run_equals_uninterrupted(run, model_folder, tmp_path, monkeypatch):
    folder, tasks, result = run
    save = PaintTrainer._save_checkpoint

    class KilledError(RuntimeError):
        pass

    def killed_after_first_checkpoint(self, *args):
        save(self, *args)
        raise KilledError

    options = PatchOptions(save_variants=True)

    def patch():
        return patch_single(model_folder, tasks[0], [tasks[1]], arguments(tmp_path), alphas=ALPHAS, options=options)

    with monkeypatch.context() as patched:
        patched.setattr(PaintTrainer, "_save_checkpoint", killed_after_first_checkpoint)
        with pytest.raises(KilledError):
            patch()
    predict, calls = Evaluator.predict, []

    def killed_in_the_sweep(self, *args):
        calls.append(args)
        if len(calls) == 6:
            raise KilledError
        return predict(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "predict", killed_in_the_sweep)
        with pytest.raises(KilledError):
            patch()
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 5
    assert patch().alpha == result.alpha
    assert (tmp_path / "results.jsonl").read_bytes() == (folder / "results.jsonl").read_bytes()
    for model in ("theta_1", "patched"):
        assert (tmp_path / model / "model.safetensors").read_bytes() == (
            folder / model / "model.safetensors"
        ).read_bytes()


def test_selection_none_saves_no_patched_model_until_an_alpha_is_chosen_by_hand(model_folder, tmp_path):
    task, run = write_task(tmp_path, splits={"validation": None}), tmp_path / "run"
    result = patch_single(model_folder, task, [], arguments(run, max_steps=3), selection="none")
    assert (result.alpha, result.model) == (None, None)
    assert not (run / "patched").exists()
    assert len(result.curve.alphas) == 11
    assert select_alpha(run, alpha=0.5).alpha == 0.5
    [stored] = json.loads((run / "patched" / "tasks.json").read_text())["tasks"]
    assert stored["class_names"] == list(CLASS_NAMES)


@pytest.mark.parametrize("side", ["patching", "supported", "no supported tasks"])
def test_selection_needs_validation_on_both_sides(model_folder, tmp_path, side, monkeypatch):
    monkeypatch.setattr(PaintTrainer, "train", None)
    bare = write_task(tmp_path, "bare", splits={"validation": None})
    full = write_task(tmp_path, "full")
    patching, supported = (bare, [full]) if side == "patching" else (full, [bare] if side == "supported" else [])
    with pytest.raises(InputError, match="needs validation images, but no"):
        patch_single(model_folder, patching, supported, arguments(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_save_dtype_rounds_once_and_half_base_keeps_its_text_tower(model, processor, tmp_path):
    from hf_paint.models.loading import save_clip

    save_clip(model.half(), processor, tmp_path / "half")
    tasks = write_task(tmp_path / "data"), write_task(tmp_path / "data", "others", seed=7)
    options = {"alphas": [0.5, 1.0]}
    result = patch_single(str(tmp_path / "half"), tasks[0], [tasks[1]], arguments(tmp_path / "run"), **options)
    base, patched = weights(tmp_path / "half"), weights(tmp_path / "run" / "patched")
    theta_1 = weights(tmp_path / "run" / "theta_1")
    assert all(tensor.dtype == torch.float32 for tensor in theta_1.values())
    assert all(torch.equal(patched[n], base[n]) for n in base if not n.startswith(IMAGE_TOWER))
    exact = interpolate({n: t.float() for n, t in base.items()}, theta_1, result.alpha)
    assert all(torch.equal(patched[n], t.half()) for n, t in exact.items())
    assert CLIPModel.from_pretrained(tmp_path / "run" / "patched").dtype == torch.float16


def test_a_finished_run_is_written_in_another_way_without_training_again(model_folder, tmp_path, monkeypatch):
    tasks = write_task(tmp_path), write_task(tmp_path, "others", seed=7)
    run, options = tmp_path / "run", {"alphas": [0.5, 1.0]}
    patch_single(model_folder, tasks[0], [tasks[1]], arguments(run), **options)
    records, trained, patched = (run / "results.jsonl").read_text(), weights(run / "theta_1"), weights(run / "patched")
    monkeypatch.setattr(PaintTrainer, "train", None)
    changed = PatchOptions(save_dtype="bfloat16", save_variants=True)
    patch_single(model_folder, tasks[0], [tasks[1]], arguments(run), options=changed, **options)
    again = weights(run / "patched")
    assert all(torch.equal(again[name], x.bfloat16()) for name, x in patched.items() if x.is_floating_point())
    assert (run / "results.jsonl").read_text() == records
    assert all(torch.equal(x, trained[name]) for name, x in weights(run / "theta_1").items())
    assert {x.dtype for x in weights(run / "variants/alpha-1.00").values()} <= {torch.bfloat16, torch.int64}
    select_alpha(run, alpha=1.0)  # by the recipe in the folder
    assert {x.dtype for x in weights(run / "patched").values()} <= {torch.bfloat16, torch.int64}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_model_in_memory_may_be_on_a_gpu(model, processor, task, other_task, tmp_path):
    args = PaintTrainingArguments(output_dir=tmp_path / "run", max_steps=2, warmup_steps=1, use_cpu=True)
    options = PatchOptions(processor=processor)
    result = patch_single(model.cuda(), task, [other_task], args, alphas=[0.5], options=options)
    assert (model.device.type, result.model.device.type) == ("cuda", "cpu")


def test_model_in_memory_is_not_changed(model, processor, task, other_task, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = PatchOptions(processor=processor, transfer_tasks=[write_task(tmp_path, "third", seed=3)])
    result = patch_single(model, task, [other_task], arguments(tmp_path / "run"), alphas=[1.0], options=options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert result.curve.splits("transfer") == {"test"}
    with pytest.raises(InputError, match="needs a processor"):
        patch_single(model, task, [other_task], arguments(tmp_path / "other"))


def test_a_task_has_one_role(model_folder, task, tmp_path):
    with pytest.raises(InputError, match="'colours' is listed twice"):
        patch_single(model_folder, task, [task], arguments(tmp_path / "run"))


def test_whole_train_split_as_validation(model_folder, tmp_path):
    task = write_task(tmp_path / "data")
    kept = write_task(tmp_path / "data", "kept", seed=5, splits={"train": None, "validation": "train", "test": "test"})
    result = patch_single(model_folder, task, [kept], arguments(tmp_path / "run"), alphas=[1.0])
    assert result.curve.get(1.0, "supported", "kept", "validation").total == 80


def test_a_trained_head_among_thetas_is_said_to_be_left_out(model_folder, task, other_task, tmp_path, caplog):
    patch_single(model_folder, task, [other_task], arguments(tmp_path / "run", train_head=True), alphas=[1.0])
    assert not [record for record in caplog.records if "is not used" in record.getMessage()]
    again = PatchOptions(thetas={"finetuned": str(tmp_path / "run/theta_1")})
    patch_single(model_folder, task, [other_task], arguments(tmp_path / "again"), alphas=[1.0], options=again)
    [said] = [record.getMessage() for record in caplog.records if "is not used" in record.getMessage()]
    assert said.startswith("The trained head of finetuned")
    assert "`hf-paint interpolate` mixes heads, too" in said
