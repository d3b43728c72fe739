"""Publishing by the trainer and by a recipe with `push_to_hub`, on a local Hub."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard, snapshot_download
from transformers import CLIPModel, CLIPProcessor

from drawn_tasks import write_task
from hf_paint import InputError, PaintTrainer, Task, patch_single
from hf_paint.models.loading import load_clip
from hub_server import Fault
from training_runs import arguments


FILES = {
    ".gitattributes",
    "README.md",
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
TOKEN = "hf_test"


@pytest.fixture
def make_trainer(hub, model_folder, task, other_task, tmp_path):
    """A function that returns a trainer that pushes to tester/clip; the base is a local folder."""

    def make(name="run", **keys):
        model, processor, _ = load_clip(model_folder)
        keys = {"push_to_hub": True, "hub_model_id": "tester/clip", "hub_token": TOKEN, "max_steps": 4} | keys
        args = arguments(tmp_path / name, **keys)
        return PaintTrainer(model, args, train_task=task, eval_tasks=[task, other_task], processing_class=processor)

    return make


def files(repo_id="tester/clip", revision="main"):
    return set(HfApi().list_repo_files(repo_id, revision=revision)) | {".gitattributes"}


def same(model, other):
    found, expected = model.state_dict(), other.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def output(trainer):
    return Path(trainer.args.output_dir)


def saves(hub):
    return len(hub.calls("commit"))


def test_end_publishes_a_complete_clip_and_nothing_else(hub, make_trainer):
    trainer = make_trainer(hub_strategy="end", save_strategy="steps", save_steps=2)
    trainer.train()
    assert saves(hub) == 0
    trainer.save_model()  # as in transformers: what the user saves is pushed
    assert saves(hub) == 1
    assert files() == FILES
    assert same(CLIPModel.from_pretrained("tester/clip"), trainer.clip_model)
    prompts = ["a photo of a red.", "a photo of a grey."]
    pulled = CLIPProcessor.from_pretrained("tester/clip").tokenizer(prompts).input_ids
    assert pulled == trainer.processing_class.tokenizer(prompts).input_ids
    trainer.push_to_hub()
    assert files() == FILES
    assert not list(output(trainer).glob(".push-*"))


def test_every_save_is_published_when_train_returns(hub, make_trainer):
    keys = {"hub_strategy": "every_save", "hub_always_push": True, "save_strategy": "steps", "save_steps": 2}
    trainer = make_trainer(**keys)
    trainer.train()
    titles = [commit.title for commit in HfApi().list_repo_commits("tester/clip")]
    assert titles[:2] == ["Training in progress, step 4", "Training in progress, step 2"]
    assert files() == FILES
    first = HfApi().list_repo_commits("tester/clip")[1].commit_id
    for revision, step in ((first, 2), ("main", 4)):
        saved = CLIPModel.from_pretrained(output(trainer) / f"checkpoint-{step}")
        assert same(CLIPModel.from_pretrained("tester/clip", revision=revision), saved)
    assert not list(output(trainer).glob(".push-*"))


def test_a_failed_push_in_the_background_loses_no_training(hub, make_trainer, caplog):
    trainer = make_trainer(hub_strategy="every_save", save_strategy="steps", save_steps=4)
    hub.faults.append(Fault(403, "commit", times=99))
    assert trainer.train().global_step == 4
    assert "A background push failed; training continues: " in caplog.text


def test_the_branch_of_hub_revision_is_made_from_the_first_commit(hub, make_trainer):
    trainer = make_trainer(hub_revision="theta-1")
    api = HfApi()
    assert {branch.name for branch in api.list_repo_refs("tester/clip").branches} == {"main", "theta-1"}
    trainer.push_to_hub()
    assert files(revision="theta-1") == FILES
    assert files() == {".gitattributes"}
    trainer.push_to_hub(revision="another")
    last, *_ = api.list_repo_commits("tester/clip", revision="another")
    assert last.title == "End of training"
    assert same(CLIPModel.from_pretrained("tester/clip", revision="another"), trainer.clip_model)


def test_private_and_named_after_the_folder(hub, make_trainer):
    make_trainer("mine", hub_model_id=None, hub_private_repo=True).push_to_hub()
    assert HfApi().repo_info("tester/mine").private
    assert files("tester/mine") == FILES


def test_card(hub, make_trainer, task):
    trainer = make_trainer()
    trainer.train()
    metrics = trainer.evaluate()
    trainer.clip_model.name_or_path = "o/clip"
    trainer.train_tasks = [Task.from_dict(task.to_dict() | {"dataset": "o/colours", "data_files": None})]
    trainer.push_to_hub(license="mit")
    card = ModelCard.load("tester/clip")
    data = card.data
    assert (data.base_model, data.base_model_relation) == ("o/clip", "finetune")
    assert (data.pipeline_tag, data.library_name) == ("zero-shot-image-classification", "transformers")
    assert (data.license, data.datasets) == ("mit", ["o/colours"])
    assert {"clip", "hf_paint"} <= set(data.tags)
    found = {result.dataset_name: result.metric_value for result in data.eval_results}
    assert found == {name: round(metrics[f"eval_{name}_accuracy"], 6) for name in ("colours", "others")}
    assert {result.dataset_split for result in data.eval_results} == {"validation"}
    assert f"| colours | {100 * metrics['eval_colours_accuracy']:.2f} |" in card.content
    assert "4 steps of 16 images" in card.content
    shown = yaml.safe_load(card.content.split("```yaml")[1].split("```")[0])
    assert (shown["learning_rate"], shown["max_steps"], shown["augmentation"]) == (1e-3, 4, "paint")
    assert "num_train_epochs" not in shown
    for word in ("hf-paint interpolate", 'model="tester/clip"', "ilharco2022patching", "a photo of a {}."):
        assert word in card.content


def test_card_of_a_base_in_a_folder_names_none(hub, make_trainer):
    make_trainer().push_to_hub()
    data = ModelCard.load("tester/clip").data.to_dict()
    assert not {"base_model", "base_model_relation", "datasets", "model-index"} & data.keys()


def test_card_of_a_data_set_and_a_head(hub, make_trainer):
    trainer = make_trainer()
    trainer.train_tasks = []
    trainer.push_to_hub()
    card = ModelCard.load("tester/clip")
    assert "# CLIP fine-tuned on a custom data set" in card.content
    assert "datasets" not in card.data.to_dict()


def test_only_accuracies_of_the_published_weights_are_shown(hub, make_trainer):
    """The best checkpoint is loaded at the end, so the last evaluation was of other weights."""
    steps = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    trainer = make_trainer(load_best_model_at_end=True, metric_for_best_model="eval_colours_loss", **steps)
    trainer.train()
    best = trainer.state.best_global_step
    accuracy = next(e for e in trainer.state.log_history if e["step"] == best and "eval_colours_accuracy" in e)
    trainer.push_to_hub()
    card = ModelCard.load("tester/clip")
    assert f"(step {best})" in card.content
    found = {result.dataset_name: result.metric_value for result in card.data.eval_results}
    assert found["colours"] == round(accuracy["eval_colours_accuracy"], 6)
    stale = make_trainer("stale")
    stale.evaluate()
    stale.train()
    stale.push_to_hub()
    assert "These weights were not evaluated." in ModelCard.load("tester/clip").content


def test_no_local_path_and_no_token_is_published(hub, make_trainer, model_folder, tmp_path):
    trainer = make_trainer(save_strategy="steps", save_steps=2)
    trainer.train()
    trainer.evaluate()
    trainer.push_to_hub()
    snapshot_download("tester/clip", local_dir=tmp_path / "pulled")
    for path in (tmp_path / "pulled").rglob("*"):
        if path.is_file() and ".cache" not in path.parts:
            content = path.read_bytes()
            for word in (model_folder, str(tmp_path), "/tmp", TOKEN):
                assert word.encode() not in content, (path.name, word)


def test_create_model_card_is_ours(hub, make_trainer):
    trainer = make_trainer()
    trainer.create_model_card(tags=["mine"])
    card = ModelCard.load(output(trainer) / "README.md")
    assert card.data.tags == ["mine"]
    assert "generated_from_trainer" not in card.content


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_resume_state_is_not_published(hub, make_trainer, strategy):
    with pytest.raises(InputError, match=f"`hub_strategy: {strategy}` would publish the training state"):
        make_trainer(hub_strategy=strategy)
    assert not hub.calls("create_repo")


PUSH = {"push_to_hub": True, "hub_model_id": "tester/clip", "base_model_id": "o/clip"}


def test_a_recipe_publishes_its_variants(hub, recipe, tmp_path, capsys):
    assert recipe(**PUSH, hub_private_repo=True, save_strategy="steps", save_steps=2) == 0
    assert f"{hub.endpoint}/tester/clip" in capsys.readouterr().out
    refs = HfApi().list_repo_refs("tester/clip").branches
    assert {branch.name for branch in refs} == {"main", "alpha-0.00", "alpha-0.50", "alpha-1.00"}
    assert HfApi().repo_info("tester/clip").private
    data = ModelCard.load("tester/clip").data
    alpha = json.loads((tmp_path / "run" / "selection.json").read_text())["alpha"]
    assert (data.base_model, data.hf_paint["alpha"]) == ("o/clip", alpha)
    plots = {path.name for path in (tmp_path / "run").glob("*.png")}
    assert {"curve.png", "accuracy.png", "examples-colours.png", "examples-others.png"} <= plots
    assert files() == FILES | {"tasks.json", "report.html"} | plots
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["hub_model_id"] == "tester/clip"
    commits = saves(hub)
    assert recipe(**PUSH | {"hub_model_id": "tester/other"}) == 0  # the same run, published somewhere else
    assert recipe(base_model_id="o/clip") == 0
    assert saves(hub) == 2 * commits


BAD = {
    "no repository": ({"hub_model_id": None}, "`push_to_hub` needs the Hub repository id in `hub_model_id`"),
    "no base": ({"base_model_id": None}, "in `base_model_id`"),
    "no alpha": ({"selection": "none"}, "needs a `selection`"),
    "strategy": ({"hub_strategy": "checkpoint"}, "`hub_strategy: checkpoint` would publish the training state"),
    "revision": ({"hub_revision": "v1"}, "Remove `hub_revision`"),
    "token": ({"hub_token": "hf_secret"}, "and `hub_token`"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_what_could_not_be_pushed_is_not_trained(hub, recipe, tmp_path, capsys, changes, message):
    assert recipe(**PUSH | changes) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "hf_secret" not in said
    assert not (tmp_path / "run").exists()
    assert not hub.log


def test_without_rights_nothing_is_trained(hub, recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert recipe(**PUSH) == 2
    assert "other cannot write to tester/clip" in capsys.readouterr().err
    assert not (tmp_path / "run" / "theta_1").exists()


def test_patch_single_does_not_push(hub, model_folder, task, tmp_path):
    args = arguments(tmp_path / "run", push_to_hub=True, hub_model_id="tester/clip")
    with pytest.raises(InputError, match=r"push_variants\(result, repo_id\)"):
        patch_single(model_folder, task, [write_task(tmp_path, "others", seed=7)], args)
    assert not hub.log
