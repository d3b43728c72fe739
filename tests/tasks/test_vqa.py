"""Multiple choice: every example has its own candidates (PAINT, case studies)."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset, Features, Image, List, Value
from torch.nn import functional

import hf_paint.models.zero_shot
from browser import check_page
from drawn_tasks import draw_rows
from hf_paint import (
    AlphaCurve,
    CandidateHead,
    InputError,
    PaintTrainer,
    PatchOptions,
    Task,
    evaluate_ensemble,
    evaluate_tasks,
    patch_joint,
    patch_single,
    prepare_task,
    read_vqa,
    write_questions_task,
    write_shapes_task,
)
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.models.prompts import embed_prompts
from hf_paint.models.towers import image_tower
from hf_paint.tasks.rendering import COLOURS
from hf_paint.tasks.scenes import SCENE_SHAPES, SceneStyle
from patch_runs import arguments
from report_checks import checked_report


SIZES = {"train": 12, "validation": 4, "test": 6}
STYLE = SceneStyle(image_size=32, radius=(0.09, 0.15))


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    task = write_questions_task(tmp_path_factory.mktemp("questions"), sizes=SIZES, style=STYLE)
    return Task.from_dict(task.to_dict() | {"prompt": "{answer} {question}"})  # the tiny model reads 32 tokens


def write_rows(folder, questions, choices, answers, **keys):
    count = len(questions)
    text = Value("string")
    rows = {"image": draw_rows(count, 0)["image"], "q": questions, "c": choices, "a": answers}
    answer = Value("int64") if any(isinstance(a, int) for a in answers) else text
    features = Features({"image": Image(), "q": text, "c": List(text), "a": answer})
    path = str(folder / "rows.parquet")
    Dataset.from_dict(rows, features=features).to_parquet(path)
    columns = {"choices_column": "c", "question_column": "q", "answer_column": "a"}
    definition = {"name": "asked", "dataset": "parquet", "data_files": {"test": path}}
    return Task.from_dict(definition | columns | {"splits": {"train": None, "validation": None}} | keys)


def plain_logits(image_embed, text_embeds, scale):
    return [float(scale * image_embed @ text / np.linalg.norm(image_embed)) for text in text_embeds.astype(np.float64)]


def test_head_equals_a_loop_over_the_examples(model, processor, questions):
    """Each image against its own candidates, embedded one by one and without padding, in float64."""
    task = prepare_task(questions, model, processor, splits=("test",))
    rows = Dataset.from_parquet(questions.data_files["test"])
    predictions = Evaluator(Accelerator(cpu=True), batch_size=5).predict(image_tower(model), task, "test")
    scale = float(model.logit_scale.exp())
    assert len({len(choices) for choices in rows["choices"]}) > 1
    for index, row in enumerate(rows):
        pixels = processor.image_processor(row["image"], return_tensors="pt").pixel_values
        with torch.no_grad():
            embed = image_tower(model)(pixel_values=pixels).image_embeds[0].double().numpy()
        prompts = [f"{choice} {row['question']}" for choice in row["choices"]]
        logits = plain_logits(embed, embed_prompts(model, processor.tokenizer, prompts).numpy(), scale)
        p = np.exp(logits - np.max(logits)) / np.exp(logits - np.max(logits)).sum()
        position = row["choices"].index(row["answer"])
        assert predictions.labels[index] == position
        assert predictions.predicted[index] == int(np.argmax(logits))
        assert abs(predictions.loss[index] + np.log(p[position])) < 1e-5
        assert abs(predictions.confidence[index] - p.max()) < 1e-5


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_equals_a_loop_over_the_examples(smoothing):
    generator = torch.Generator().manual_seed(0)
    weight = functional.normalize(torch.randn(9, 4, generator=generator), dim=-1)
    embeds = torch.randn(3, 4, generator=generator, requires_grad=True)
    candidates = [[3, 1], [8, 0, 2, 5], [4, 6, 7]]
    labels = torch.tensor([[1, 3, 1, -1, -1], [3, 8, 0, 2, 5], [0, 4, 6, 7, -1]])
    head = CandidateHead(weight, torch.tensor(20.0))
    losses = []
    for embed, own, (position, *_) in zip(embeds, candidates, labels.tolist(), strict=True):
        log_p = torch.log_softmax(20 * weight[own].double() @ functional.normalize(embed.double(), dim=0), dim=0)
        losses.append(-(1 - smoothing) * log_p[position] - smoothing * log_p.mean())
    expected = torch.stack(losses).mean()
    found = head.loss(embeds, labels, label_smoothing=smoothing)
    assert abs(found.item() - expected.item()) < 1e-5
    gradients = [torch.autograd.grad(loss, embeds)[0] for loss in (found, expected)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5
    logits, positions = head.compare(embeds.detach(), labels)
    assert torch.equal(logits.isinf().sum(dim=1), torch.tensor([2, 0, 1]))
    assert torch.equal(positions, torch.tensor([1, 3, 0]))


def test_each_text_is_embedded_once(model, processor, questions, monkeypatch, tmp_path):
    embedded = []

    def counting(model, tokenizer, prompts, **options):
        embedded.extend(prompts)
        return embed_prompts(model, tokenizer, prompts, **options)

    monkeypatch.setattr(hf_paint.models.zero_shot, "embed_prompts", counting)
    task = prepare_task(questions, model, processor, cache_dir=tmp_path)
    rows = [row for split in ("validation", "test") for row in Dataset.from_parquet(questions.data_files[split])]
    texts = [f"{choice} {row['question']}" for row in rows for choice in row["choices"]]
    assert len(embedded) == len(set(embedded)) == task.head.weight.shape[0] < len(texts)
    assert set(embedded) == set(texts) == set(task.class_names)
    prepare_task(questions, model, processor, cache_dir=tmp_path)
    assert len(embedded) == task.head.weight.shape[0]


def test_candidates_follow_their_rows(questions):
    for name, split in load_splits(questions).items():
        rows = Dataset.from_parquet(questions.data_files[name])
        targets = split.targets(split.labels())
        for row, (position, *candidates) in zip(rows, targets.tolist(), strict=True):
            texts = [split.class_names[index] for index in candidates if index >= 0]
            assert texts == [f"{choice} {row['question']}" for choice in row["choices"]]
            assert texts[position].startswith(f"{row['answer']} ")


def test_prompt_and_positions_as_answers(tmp_path):
    choices = [["red", "blue", "red"], ["{question}", "two"]]
    prompt = "question: {question} answer: {answer}."
    task = write_rows(tmp_path, ["what {answer}?", "how many?"], choices, [2, 0], prompt=prompt)
    split = load_splits(task)["test"]
    assert split.class_names == (
        "question: what {answer}? answer: red.",
        "question: what {answer}? answer: blue.",
        "question: how many? answer: {question}.",
        "question: how many? answer: two.",
    )
    assert split.targets(split.labels()).tolist() == [[0, 0, 1], [0, 2, 3]]
    assert Task.from_dict(task.to_dict()) == task


BAD = {
    "questions": ["what?", None, "what?", "what?", "what?", "what?", "what?"],
    "choices": [["a", "b"], ["a"], [], ["a", "b"], ["a", ""], None, ["b", "a"]],
    "answers": ["a", "a", "a", None, "a", "a", "c"],
}


def test_bad_rows_are_refused_with_their_numbers(tmp_path):
    with pytest.raises(InputError, match="6 of the 7 rows of the test split of task 'asked' cannot be used") as caught:
        load_splits(write_rows(tmp_path, **BAD))
    assert "row 1 has no question; row 2 has no candidates; row 3 has no answer; ..." in str(caught.value)
    assert "`bad_rows: skip`" in str(caught.value)
    with pytest.raises(InputError, match="row 1 has the answer 'c', which is not one of its 2 candidates"):
        load_splits(write_rows(tmp_path, ["x", "y"], [["a", "b"], ["b", "a"]], ["a", "c"]))
    with pytest.raises(InputError, match="row 0 has the answer 2, which is not one of its 2 candidates"):
        load_splits(write_rows(tmp_path, ["x"], [["a", "b"]], [2]))


def test_bad_rows_are_skipped_and_reported(tmp_path, caplog):
    split = load_splits(write_rows(tmp_path, **BAD, bad_rows="skip"))["test"]
    assert len(split.rows) == 1
    assert split.targets(split.labels()).tolist() == [[0, 0, 1]]
    assert "6 of the 7 rows of the test split of task 'asked' cannot be used and are skipped: row 1" in caplog.text
    with pytest.raises(InputError, match="is empty: no rows of"):
        load_splits(write_rows(tmp_path, ["x"], [[]], ["a"], bad_rows="skip"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prompt": "{question}"}, "must contain exactly one {answer}"),
        ({"bad_rows": "drop"}, "must be `refuse` or `skip`, got 'drop'"),
        ({"class_names": ["a"]}, "`class_names` is not a key of a multiple-choice task.*`choices_column`"),
        ({"attack": {}}, "`attack` is not a key of a multiple"),
        ({"text_column": "image"}, "`text_column` is not a key of a multiple"),
        ({"streaming": True}, "`streaming` is not a key of a multiple"),
        ({"answer_column": "answr"}, "'parquet' has no column 'answr'.*Correct `answer_column` of task 'questions'"),
        ({"choices_column": "choice"}, "no column 'choice'.*Did you mean 'choices'.*Correct `choices_column`"),
    ],
)
def test_bad_keys_are_named(questions, keys, message):
    with pytest.raises(InputError, match=message):
        load_splits(Task.from_dict(questions.to_dict() | keys))


def test_candidates_that_are_the_same_to_the_model_are_reported(questions, model, processor, tmp_path, caplog):
    short = Task.from_dict(questions.to_dict() | {"prompt": "{answer}"})
    prepare_task(short, model, processor, cache_dir=tmp_path)
    assert "the same as another" not in caplog.text
    cut = Task.from_dict(questions.to_dict() | {"prompt": "{question} {question} {answer}"})
    prepare_task(cut, model, processor, cache_dir=tmp_path)
    assert "candidates of task 'questions' have the same embedding as another" in caplog.text


def test_drawn_questions_have_the_right_answers(questions, tmp_path):
    rows = Dataset.from_parquet(questions.data_files["test"])
    assert len(rows) == 3 * SIZES["test"]
    pools = {
        "colour": set(COLOURS),
        "shape": set(SCENE_SHAPES),
        "count": {"one", "two", "three", "four", "five", "six"},
    }
    for row in rows:
        assert row["answer"] in row["choices"]
        assert len(set(row["choices"])) == len(row["choices"]) in range(3, 7)
        assert set(row["choices"]) <= pools[row["answer_type"]]
    assert [row["answer"] for row in rows if row["answer_type"] == "count"] == [
        "one",
        "two",
        "three",
        "four",
        "five",
        "one",
    ]
    first = {row["answer_type"]: row for row in rows if row["image_id"] == 0}  # one object: the questions are about it
    assert first["colour"]["question"] == f"what colour is the {first['shape']['answer']}?"
    assert first["shape"]["question"] == f"what shape is the {first['colour']['answer']} object?"
    pixels = np.asarray(first["colour"]["image"]).reshape(-1, 3).astype(int)
    assert (np.abs(pixels - COLOURS[first["colour"]["answer"]]).max(axis=1) < 20).sum() > 5
    again = write_questions_task(tmp_path, sizes=SIZES, style=STYLE)
    same = Dataset.from_parquet(again.data_files["test"])
    assert [{**row, "image": None} for row in rows] == [{**row, "image": None} for row in same]


def test_patched_with_candidates_of_each_example(questions, model_folder, tmp_path):
    shapes = write_shapes_task(tmp_path / "shapes", sizes={"validation": 12, "test": 12}, style=STYLE)
    args = arguments(tmp_path / "run")
    result = patch_single(model_folder, questions, [shapes], args, alphas=[0, 0.5, 1])
    rows = Dataset.from_parquet(questions.data_files["test"])
    curve = AlphaCurve.from_run(tmp_path / "run")
    for alpha in (0.0, 0.5, 1.0):
        record = curve.get(alpha, "patching", "questions", "test")
        assert {kind: total for kind, (_, total) in record.answer_types.items()} == {
            "colour": 6,
            "count": 6,
            "shape": 6,
        }
        right = np.load(tmp_path / "run" / record.correct_file)
        for kind, (correct, _) in record.answer_types.items():
            assert correct == sum(right[i] for i, row in enumerate(rows) if row["answer_type"] == kind)
        assert record.mean_per_class is None
        assert curve.get(alpha, "supported", "shapes", "test").answer_types is None
    assert len({curve.get(alpha, "patching", "questions", "test").loss for alpha in (0.0, 0.5, 1.0)}) == 3
    chosen = curve.get(result.alpha, "patching", "questions", "test").answer_types["count"]
    zero = curve.get(0.0, "patching", "questions", "test").answer_types["count"]
    card = (tmp_path / "run" / "patched" / "README.md").read_text()
    assert f"| questions | count | 6 | {100 * zero[0] / 6:.2f} | {100 * chosen[0] / 6:.2f} |" in card
    assert "`{answer} {question}`" in card
    (run,) = checked_report(tmp_path / "run")["runs"]
    check_page(tmp_path / "run", run)
    task = run["tasks"][0]
    assert task["per_class"] is None  # each question has its own candidates
    assert task["metrics"]["accuracy_count"][0] == zero[0] / 6
    for picture in task["pictures"]:
        row = rows[picture["index"]]
        assert picture["question"] == row["question"]
        assert {answer for best in picture["answers"] for answer, _ in best} <= {*row["choices"]}


@pytest.mark.parametrize("augmentation", ["paint", "none"])
def test_a_step_of_training_is_that_of_the_plain_loss(questions, model, processor, tmp_path, augmentation):
    args = arguments(tmp_path / "run", augmentation=augmentation, max_steps=3, warmup_steps=1)
    trainer = PaintTrainer(model, args, train_task=questions, eval_tasks=[questions], processing_class=processor)
    before = trainer.evaluate()
    assert "eval_questions_mean_per_class" not in before
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    embeds = trainer.model(pixel_values=trainer.transform.normalize(batch["pixel_values"])).image_embeds
    expected = []
    for embed, (position, *candidates) in zip(embeds, batch["labels"].tolist(), strict=True):
        own = trainer.head.weight[[index for index in candidates if index >= 0]]
        logits = trainer.head.logit_scale * own @ (embed / embed.norm())
        expected.append(logits.logsumexp(dim=0) - logits[position])
    loss = trainer.compute_loss(trainer.model, batch)
    assert abs(loss.item() - torch.stack(expected).mean().item()) < 1e-5
    trainer.train()
    assert trainer.evaluate()["eval_questions_loss"] != before["eval_questions_loss"]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_an_ensemble_mixes_the_logits_of_the_candidates(questions, model, processor, alpha):
    task = prepare_task(questions, model, processor, splits=("test",))
    evaluator = Evaluator(Accelerator(cpu=True))
    theta_0 = image_tower(model).state_dict()
    theta_1 = {name: 1.1 * tensor for name, tensor in theta_0.items()}
    curve = evaluate_ensemble(theta_0, theta_1, [alpha], [task], model=image_tower(model), evaluator=evaluator)
    embeds = [evaluator.embed(_with(model, theta), task, "test") for theta in (theta_0, theta_1)]
    losses = []
    for before, after, (position, *rows) in zip(embeds[0][0], embeds[1][0], embeds[0][1].tolist(), strict=True):
        weight = task.head.weight[[row for row in rows if row >= 0]].double()
        logits = [weight @ functional.normalize(embed.double(), dim=0) for embed in (before, after)]
        mixed = task.head.logit_scale * ((1 - alpha) * logits[0] + alpha * logits[1])
        losses.append(-float(mixed.log_softmax(dim=0)[position]))
    assert curve.get(alpha, "supported", "questions", "test").loss == pytest.approx(np.mean(losses), abs=1e-5)


def _with(model, theta):
    tower = deepcopy(image_tower(model))
    tower.load_state_dict(theta)
    return tower


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [({"train_head": True}, {}, "Remove `train_head`"), ({}, {"method": "fisher"}, "'fisher' samples class labels")],
)
def test_what_is_for_classes_refuses_candidates(questions, model_folder, tmp_path, keys, options, message):
    with pytest.raises(InputError, match=message):
        patch_single(
            model_folder, questions, [], arguments(tmp_path, **keys), selection="none", options=PatchOptions(**options)
        )


def test_joint_training_refuses_candidates(questions, task, model_folder, tmp_path):
    with pytest.raises(InputError, match="'questions' has `choices_column`, so it can only be trained alone"):
        patch_joint(model_folder, [task, questions], [], arguments(tmp_path / "run"), selection="none")


def write_vqa(folder, *, choices=True):
    answers = ["yes", "no", "yes", "two", "red", "blue", "yes", "no"]
    questions = [{"image_id": 40 + i // 2, "question_id": i, "question": f"question {i}?"} for i in range(9)]
    for i, question in enumerate(questions):
        if choices:
            question["multiple_choices"] = ["yes", "no", "two", "red" if i % 2 == 0 else "blue"]
    annotations = [
        {"question_id": i, "image_id": 40 + i // 2, "multiple_choice_answer": answer, "answer_type": "other"}
        for i, answer in reversed(list(enumerate(answers)))
    ]
    (folder / "questions.json").write_text(json.dumps({"questions": questions}))
    (folder / "annotations.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "images").mkdir()
    for i, image in enumerate(draw_rows(5, 0)["image"]):
        image.save(folder / "images" / f"COCO_val2014_{40 + i:012d}.png")
    return folder / "questions.json", folder / "annotations.json", folder / "images"


def test_vqa_files_with_candidates(tmp_path, model, processor):
    rows = read_vqa(*write_vqa(tmp_path))
    assert rows["image_id"][:] == [40, 40, 41, 41, 42, 42, 43, 43, 44]
    assert rows["answer"][:] == ["yes", "no", "yes", "two", "red", "blue", "yes", "no", None]
    assert rows["choices"][4] == ["yes", "no", "two", "red"]
    assert np.array_equal(rows[2]["image"], draw_rows(5, 0)["image"][1])
    rows.to_parquet(tmp_path / "vqa.parquet")
    definition = {"name": "vqa", "dataset": "parquet", "data_files": {"test": str(tmp_path / "vqa.parquet")}}
    keys = {
        "choices_column": "choices",
        "answer_type_column": "answer_type",
        "splits": {"train": None, "validation": None},
    }
    with pytest.raises(InputError, match="1 of the 9 rows.*row 8 has no answer"):
        load_splits(Task.from_dict(definition | keys))
    [result] = evaluate_tasks(model, [Task.from_dict(definition | keys | {"bad_rows": "skip"})], processor=processor)
    assert result.total == 8
    assert result.answer_types == {"other": [result.correct, 8]}


def test_vqa_files_without_candidates(tmp_path):
    files = write_vqa(tmp_path, choices=False)
    rows, again = read_vqa(*files, num_choices=4), read_vqa(*files, num_choices=4)
    assert rows["choices"][:] == again["choices"][:] != read_vqa(*files, num_choices=4, seed=1)["choices"][:]
    for answer, choices in zip(rows["answer"], rows["choices"], strict=True):
        assert answer is None or (answer in choices and len(set(choices)) == len(choices) == 4)
        assert {"yes", "no"} <= set(choices)
    assert {len(choices) for choices in read_vqa(*files)["choices"]} == {5}


def test_vqa_files_that_are_not_what_they_should_be(tmp_path):
    questions, annotations, images = write_vqa(tmp_path)
    with pytest.raises(InputError, match="questions.json is not a VQA file with the key 'annotations'"):
        read_vqa(questions, questions, images)
    for key in ("question", "question_id", "image_id"):
        entry = {"question": "?", "question_id": 1, "image_id": 42}
        (tmp_path / "short.json").write_text(json.dumps({"questions": [{k: entry[k] for k in entry if k != key}]}))
        with pytest.raises(InputError, match=f"every entry in `questions` needs the key '{key}'"):
            read_vqa(tmp_path / "short.json", annotations, images)
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_vqa(questions, annotations, tmp_path / "nowhere")
    next(images.glob("*41.png")).unlink()
    with pytest.raises(InputError, match="Image 41 of question 2 is not in"):
        read_vqa(questions, annotations, images)
