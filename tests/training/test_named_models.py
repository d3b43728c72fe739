"""Models given by their names, predictions, the best checkpoint and early stopping: what a `Trainer` user expects."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel, CLIPModel, CLIPProcessor, EarlyStoppingCallback

from drawn_tasks import write_task, write_task_yaml
from hf_paint import (
    InputError,
    PaintTrainer,
    PaintTrainingArguments,
    build_zero_shot_head,
    evaluate_tasks,
    get_task,
    prepare_task,
)
from hf_paint.data.splits import load_splits
from training_runs import arguments, losses


PROMPT = "a photo of a {}."
EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_task(folder, "others", seed=7)
    return {name: write_task_yaml(folder, name, seed=seed) for name, seed in (("colours", 0), ("others", 7))}


def test_a_trainer_takes_a_name(model_folder, model, processor, data, tmp_path):
    options = {"train_task": data["colours"], "eval_tasks": [data["others"]]}
    named = PaintTrainer(model_folder, arguments(tmp_path / "a", max_steps=2, warmup_steps=1), **options)
    given = PaintTrainer(
        model, arguments(tmp_path / "b", max_steps=2, warmup_steps=1), processing_class=processor, **options
    )
    for trainer in (named, given):
        trainer.train()
    assert losses(named) == losses(given)
    accuracies = [trainer.evaluate()["eval_others_accuracy"] for trainer in (named, given)]
    assert accuracies[0] == accuracies[1]


def test_a_trainer_needs_no_arguments(model_folder, data, tmp_path, monkeypatch):
    """As in transformers; the defaults are those of the papers."""
    monkeypatch.chdir(tmp_path)
    args = PaintTrainer(model=model_folder, train_task=data["colours"]).args
    assert type(args) is PaintTrainingArguments
    assert (args.max_steps, args.output_dir) == (2000, "trainer_output")


def test_a_loaded_model_has_its_processor(model_folder, data):
    """Whether transformers loaded it, or it is named: the same head and the same results."""
    loaded = CLIPModel.from_pretrained(model_folder)
    heads = [prepare_task(data["others"], model, splits=("test",)).head for model in (loaded, model_folder)]
    assert torch.equal(heads[0].weight, heads[1].weight)
    found, expected = (evaluate_tasks(model, data["others"])[0] for model in (loaded, model_folder))
    assert found.correct == expected.correct


def test_a_head_takes_a_name_and_one_prompt(model_folder, model, processor):
    expected = build_zero_shot_head(model, processor.tokenizer, ["red", "blue"], [PROMPT]).weight
    assert torch.equal(build_zero_shot_head(model_folder, None, ["red", "blue"], PROMPT).weight, expected)
    assert torch.equal(build_zero_shot_head(model, processor, ["red", "blue"], PROMPT).weight, expected)
    with pytest.raises(InputError, match="a list with at least one class name"):
        build_zero_shot_head(model_folder, None, "red", PROMPT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "A model is a Hub repository id, a folder, or a CLIP model of transformers; got an object of type int"),
        (torch.nn.Linear(2, 2), "got an object of type Linear"),
        ("model", "made in memory needs a processor"),
        ("bert", "is a bert model, which cannot be patched"),
    ],
    ids=("number", "module", "without a name", "another family"),
)
def test_another_model_is_refused(given, message, model, data):
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    given = (
        {"model": model, "bert": BertModel(BertConfig(vocab_size=9, **tiny))}.get(given, given)
        if isinstance(given, str)
        else given
    )
    for call in (lambda: prepare_task(data["others"], given), lambda: PaintTrainer(given, train_task=data["colours"])):
        with pytest.raises(InputError, match=message):
            call()


def test_other_arguments_are_refused(model_folder, data):
    for args in ({"max_steps": 1}, "runs/mine"):
        with pytest.raises(
            InputError, match=f"must be training arguments, .* got an object of type {type(args).__name__}"
        ):
            PaintTrainer(model_folder, args, train_task=data["colours"])
    with pytest.raises(InputError, match="an image processor and a tokenizer; got an object of type str"):
        prepare_task(data["others"], model_folder, "processor")


@pytest.fixture
def trainer(model_folder, data, tmp_path):
    return PaintTrainer(model_folder, arguments(tmp_path, max_steps=2, warmup_steps=1), train_task=data["colours"])


def test_predictions_are_those_of_the_model(trainer, model_folder, data, tmp_path):
    """The logits against CLIP's own formula, with the weights that a checkpoint holds."""
    trainer.train()
    found = trainer.predict(data["others"])
    assert trainer.model.training
    trainer.save_model(str(tmp_path / "saved"))
    split = load_splits(get_task(data["others"]), ("test",))["test"]
    model = AutoModel.from_pretrained(tmp_path / "saved").eval()
    processor = CLIPProcessor.from_pretrained(model_folder)
    prompts = [PROMPT.format(name) for name in split.class_names]
    inputs = processor(text=prompts, images=split.rows["image"][:], return_tensors="pt", padding="max_length")
    with torch.no_grad():
        expected = model(**inputs).logits_per_image.numpy()
    labels = np.array(split.rows["label"][:])
    assert (found.predictions.shape, found.predictions.dtype) == ((40, 4), np.float32)
    np.testing.assert_allclose(found.predictions, expected, atol=2e-4)
    np.testing.assert_array_equal(found.label_ids, labels)
    assert found.metrics["test_others_accuracy"] == (expected.argmax(-1) == labels).mean()
    loss = torch.nn.functional.cross_entropy(torch.tensor(expected), torch.tensor(labels))
    assert found.metrics["test_loss"] == pytest.approx(float(loss), abs=1e-4)
    assert found.metrics["test_samples_per_second"] > 0


def test_predictions_take_rows_in_memory_but_one_task(trainer, data):
    rows = load_splits(prepare_task(data["others"], trainer.clip.model, trainer.processing_class).task, ("test",))[
        "test"
    ].rows
    named, in_memory = trainer.predict(data["others"]), trainer.predict(rows)
    np.testing.assert_array_equal(named.predictions, in_memory.predictions)
    assert "dev_loss" in trainer.predict(rows, metric_key_prefix="dev").metrics
    with pytest.raises(InputError, match="got an object of type NoneType"):
        trainer.predict(None)
    with pytest.raises(InputError, match="one task or data set, got 2"):
        trainer.predict([data["colours"], data["others"]])


def stopped(model_folder, data, folder, **options):
    keys = {"max_steps": 6, "learning_rate": 0.0, "warmup_steps": 1} | EVALUATED
    trainer = PaintTrainer(
        model_folder,
        arguments(folder, **keys, **options),
        train_task=data["colours"],
        eval_tasks=data["others"],
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    trainer.train()
    return trainer


def test_early_stopping_needs_nothing_else(model_folder, data, tmp_path):
    """With a learning rate of 0, no evaluation after the first is better: two more, and training stops."""
    trainer = stopped(model_folder, data, tmp_path)
    assert trainer.state.global_step == 3
    assert trainer.args.metric_for_best_model == "eval_mean_accuracy"


def test_the_best_checkpoint_is_the_most_accurate(model_folder, data, tmp_path):
    args = arguments(tmp_path, max_steps=4, learning_rate=1e-2, load_best_model_at_end=True, **EVALUATED)
    assert (args.metric_for_best_model, args.greater_is_better) == ("eval_mean_accuracy", True)
    assert not {"metric_for_best_model", "greater_is_better"} & args.given().keys()
    trainer = PaintTrainer(model_folder, args, train_task=data["colours"], eval_tasks=data["others"])
    trainer.train()
    accuracies = [entry["eval_mean_accuracy"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.state.best_metric == max(accuracies)
    assert trainer.evaluate()["eval_mean_accuracy"] == max(accuracies)
