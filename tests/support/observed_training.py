"""What a short training builds, does and leaves behind, as plain values that can be compared."""

from types import SimpleNamespace

import pytest
import torch
import transformers.training_args
from transformers import TrainerCallback, logging
from transformers.trainer_callback import CallbackHandler, ExportableState

from hf_paint import ClassificationHead, HeadTrainer, PaintTrainer, PaintTrainingArguments
from hf_paint.patching import trained_head
from hf_paint.results.run_folder import RunFolder
from hf_paint.training import hub_mixin
from hf_paint.training.hub_mixin import HubMixin


TIMES = ("runtime", "per_second", "mem_")
REPORTED = ("run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")
"""Fields that only experiment trackers read, from the arguments they are given."""


class Tracker(TrainerCallback):
    """A stand-in for an experiment tracker."""

    seen: dict = {}

    def on_train_begin(self, args, state, control, **kwargs):
        Tracker.seen = {name: getattr(args, name) for name in REPORTED}


class Counter(TrainerCallback, ExportableState):
    """A callback whose state is stored in checkpoints: the number of steps it has seen."""

    def __init__(self, steps=0):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1

    def state(self):
        return {"args": {"steps": self.steps}, "attributes": {}}


class PublishedHeadTrainer(HubMixin, HeadTrainer):
    """A trainer of a small head that also publishes."""

    def save_repository(self, folder):
        (folder / "head.txt").write_text("head")

    def model_card(self, **metadata):
        return "card"


def plain(value):
    """A value as something that can be compared."""
    if torch.is_tensor(value):
        return repr(value.tolist())  # a NaN equals itself only as text
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(part) for part in value]
    return type(value).__name__ if not hasattr(value, "value") else str(value.value)


def attributes(thing, names):
    return {name: plain(getattr(thing, name, None)) for name in names}


def logs(trainer):
    """The log history without timings; it keeps which timings there are."""
    return [
        {key: repr(value) if not any(word in key for word in TIMES) else "time" for key, value in entry.items()}
        for entry in trainer.state.log_history
    ]


def spy(monkeypatch, calls):
    """Record calls to the Hub, to torch's memory and to the state of the processes."""

    def record(name, result=None):
        return lambda *args, **kwargs: calls.append([name, plain(kwargs)]) or result

    real = transformers.training_args.PartialState
    monkeypatch.setattr(
        transformers.training_args,
        "PartialState",
        lambda **kwargs: (
            calls.append(["processes", {key: str(value) for key, value in kwargs.items()}])
            or real(**{key: value for key, value in kwargs.items() if key == "cpu"})
        ),
    )
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # takes longer than the training
    monkeypatch.setattr("transformers.trainer.clear_device_cache", record("clear_device_cache"))
    monkeypatch.setattr("transformers.trainer.DebugUnderflowOverflow", record("DebugUnderflowOverflow"))
    create = SimpleNamespace(
        create_repo=lambda name, **kw: record("create")(name=name, **kw) or SimpleNamespace(repo_id=name)
    )
    monkeypatch.setattr(hub_mixin, "HfApi", lambda: create)
    monkeypatch.setattr(hub_mixin, "list_repo_commits", lambda *_, **__: [SimpleNamespace(commit_id="first")])
    monkeypatch.setattr(hub_mixin, "create_branch", record("branch"))
    never = SimpleNamespace(done=lambda: False, result=lambda *_: None)
    monkeypatch.setattr(hub_mixin, "run_as_future", lambda *args: record("push")(to=args[3], token=args[4]) or never)
    monkeypatch.setattr("transformers.utils.hub.PushInProgress.wait_until_done", lambda self: None, raising=False)


def train_head(folder, monkeypatch, *, nan=False, oom=False, resume=False, train=True, **fields):
    """Train a head of two classes on five embeddings for a few steps, and return what can be observed."""
    calls: list = []
    spy(monkeypatch, calls)
    values = {"max_steps": 4, "warmup_steps": 1, "learning_rate": 0.1, "per_device_train_batch_size": 2}
    values |= {"save_steps": 2, "logging_steps": 2, "disable_tqdm": True, "output_dir": str(folder)} | fields
    args = PaintTrainingArguments(**{key: value for key, value in values.items() if value is not ...})
    torch.manual_seed(0)
    embeds, labels = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])
    head = ClassificationHead(torch.randn(2, 3), ["cat", "dog"])
    counter = Counter()
    options = {"image_embeds": embeds * float("nan") if nan else embeds, "labels": labels, "callbacks": [counter]}
    trainer = PublishedHeadTrainer(head, args, **options)
    if oom:
        run_out_of_memory_once(trainer)
    failed = None
    if train:
        try:
            trainer.train()
            if resume:
                calls.append("resume")
                again = ClassificationHead(torch.randn(2, 3), ["cat", "dog"])
                trainer = PublishedHeadTrainer(again, args, **options | {"callbacks": [Counter()]})
                trainer.train(resume_from_checkpoint=f"{folder}/checkpoint-2")
                head, counter = again, next(c for c in trainer.callback_handler.callbacks if isinstance(c, Counter))
        except RuntimeError as error:
            failed = str(error)
    level = logging.get_verbosity()
    monkeypatch.setattr(type(args), "process_index", 8)
    elsewhere = [args.should_log, args.should_save]  # on the first process of a second node
    monkeypatch.setattr(type(args), "local_process_index", 1)
    elsewhere.append(args.get_process_log_level())  # on its second process
    return {
        "weights": plain(head.weight.detach()),
        "failed": failed,
        "steps seen": counter.steps,
        "logs": logs(trainer),
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "push" not in str(path)),
        "calls": calls,
        "tracked": Tracker.seen,
        "callbacks": sorted(type(c).__name__ for c in trainer.callback_handler.callbacks),
        "elsewhere": elsewhere,
        "log level": level,
        "memory": trainer._memory_tracker.skip_memory_metrics,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "folder": str(args.output_dir),
        **built(trainer),
    }


def built(trainer):
    """The optimizer, the data loader and the accelerator of a trainer."""
    accelerator, loader = trainer.accelerator, trainer.get_train_dataloader()
    optimizer = trainer.optimizer or trainer.create_optimizer()
    optimizer = getattr(optimizer, "optimizer", optimizer)
    groups = [
        {key: plain(x) for key, x in g.items() if key != "params"} | {"n": len(g["params"])}
        for g in optimizer.param_groups
    ]
    names = (
        "batch_size",
        "drop_last",
        "num_workers",
        "pin_memory",
        "prefetch_factor",
        "persistent_workers",
        "in_order",
    )
    context = loader.multiprocessing_context
    return {
        "optimizer": [type(optimizer).__name__, groups],
        "loader": attributes(loader, names) | {"context": context and context.get_start_method()},
        "sampler": type(loader.batch_sampler.sampler).__name__,
        "accelerator": attributes(
            accelerator, ("mixed_precision", "gradient_accumulation_steps", "even_batches", "split_batches")
        ),
        "ddp": plain(vars(accelerator.ddp_handler)) if accelerator.ddp_handler else None,
        "compile": compiled(trainer),
        "device": [str(trainer.args.device), trainer.args.per_device_eval_batch_size],
    }


def compiled(trainer):
    """The options with which a trainer compiles its model."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda call, **options: found.append(plain(options)) or call)
        with trainer._compiled(2):
            return found


def train_tower(folder, model, processor, tasks, **fields):
    """Fine-tune a tiny CLIP for two steps, and return what can be observed."""
    values = {"max_steps": 2, "warmup_steps": 1, "learning_rate": 1e-3, "per_device_train_batch_size": 4}
    values |= {"save_steps": 1, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True}
    args = PaintTrainingArguments(output_dir=str(folder), **values | fields)
    replayed = tasks[1:] if "replay_share" in fields else ()
    tasks = tasks if args.task_sampling != "proportional" else tasks[:1]
    options = {"replay_tasks": replayed, "eval_tasks": tasks[:1], "processing_class": processor}
    trainer = PaintTrainer(model, args, train_task=tasks, **options)
    trainer.train()
    modules = [m for m in trainer.model.modules() if getattr(m, "gradient_checkpointing", False)]
    functions = [getattr(m, "_gradient_checkpointing_func", None) for m in modules]
    return {
        "weights": {name: float(x.detach().double().sum()) for name, x in trainer.model.named_parameters()},
        "logs": logs(trainer),
        "decay": [[group["weight_decay"], len(group["params"])] for group in trainer.optimizer.param_groups],
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "choices": plain(trainer.state.stateful_callbacks.get("LinearLayers")),
        "best": [trainer.state.best_global_step, trainer.state.best_metric],
        "checkpointing": [plain(getattr(function, "keywords", None)) for function in functions],
        "scales": [plain(module.scaling) for module in trainer.model.modules() if hasattr(module, "scaling")],
    }


def train_head_first(monkeypatch, folder, **fields):
    """Return the arguments with which a patching run trains the head before the tower."""
    seen = []

    class Spy:
        def __init__(self, head, args, **options):
            seen.append([args.max_steps, args.learning_rate, args.output_dir])
            self.callback_handler = CallbackHandler([], None, None, None, None)
            self.add_callback = self.callback_handler.add_callback
            self.remove_callback = self.callback_handler.remove_callback

        def last_checkpoint(self):
            return None

        def train(self, **options):
            pass

    monkeypatch.setattr(trained_head, "HeadTrainer", Spy)
    monkeypatch.setattr(trained_head.Evaluator, "embed", lambda *_: (None, None))
    args = PaintTrainingArguments(output_dir=str(folder), max_steps=3, warmup_steps=1, use_cpu=True, **fields)
    classifier = SimpleNamespace(train=lambda mode: None, head=None)
    trained_head.train_head_alone(classifier, lambda: None, args, RunFolder(folder))
    return seen


def run_out_of_memory_once(trainer):
    step, ran_out = trainer.training_step, []

    def training_step(*args, **kwargs):
        if not ran_out:
            ran_out.append(True)
            raise RuntimeError("CUDA out of memory.")
        return step(*args, **kwargs)

    trainer.training_step = training_step
