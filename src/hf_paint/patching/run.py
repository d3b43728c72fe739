"""A patching run: a recipe, its prepared tasks, and the run folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, replace

from torch import Tensor

from hf_paint.evaluation.evaluator import Evaluator, Precision
from hf_paint.evaluation.precision import compare_precisions
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.merging.base import Method
from hf_paint.models.linear_layers import measured_choice
from hf_paint.models.towers import ImageTower, move, with_weights
from hf_paint.patching.base import Base
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.processes import wait_for_everyone
from hf_paint.patching.recipe import Recipe, Rule
from hf_paint.results.identity import Identity
from hf_paint.results.result_log import ResultLog
from hf_paint.results.run_files import RESULTS, TRIED
from hf_paint.results.run_folder import RunFolder
from hf_paint.training.training_args import PaintTrainingArguments


class PatchRun:
    """A run of a patching strategy.

    Args:
        recipe: Recipe of the run.
        tasks: Prepared tasks to evaluate; empty for a run over several orders, which evaluates nothing itself.
        identity: What the run is bound to. A step, or a run over several orders, is bound by the run around or in it.
    """

    def __init__(self, recipe: Recipe, tasks: Sequence[PreparedTask] = (), identity: Identity | None = None) -> None:
        self.recipe: Recipe = recipe
        self.tasks: tuple[PreparedTask, ...] = tuple(tasks)
        self.identity: Identity = identity or Identity(num_processes=recipe.num_processes, content={})
        self.base: Base = recipe.base
        self.args: PaintTrainingArguments = recipe.args
        self.rule: Rule = recipe.rule
        self.options: PatchOptions = recipe.options
        self.method: Method = recipe.method
        self.folder: RunFolder = recipe.folder

    @property
    def tasks_alone(self) -> Sequence[PreparedTask]:
        """Tasks on whose test images a parallel run evaluates the model that was fine-tuned on the task alone."""
        own = self.tasks if self.recipe.strategy == "parallel" else ()
        return [task for task in own if task.role == "patching" and "test" in task.images]

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock the run folder for this run.

        Raises:
            InputError: If the folder contains a run of a different recipe, or another process has locked it.
        """
        recipe = self.recipe.to_dict()
        self.folder.check(recipe)
        self.identity.check(self.folder)
        wait_for_everyone()
        with self.folder.claimed(recipe):
            self.identity.check(self.folder).save(self.folder)
            self.args = self._decided()
            self.recipe = replace(self.recipe, args=self.args)
            wait_for_everyone()
            yield

    def _decided(self) -> PaintTrainingArguments:
        """Return the arguments with `onednn` decided once per run, as its products round differently."""
        args, known = copy(self.args), self.folder.load_onednn()
        wait_for_everyone()  # all have read what is known before the main process may write it
        if args.onednn is None:
            args.onednn = measured_choice(self.base.tower(), args.device) if known is None else known
        if known is None and args.onednn is not None:
            self.folder.save_onednn(args.onednn)
        return args

    def log(self, name: str = RESULTS) -> ResultLog:
        """Return the result log of the run, or the log in another file. It knows what choosing a method evaluated."""
        log = ResultLog(self.folder.path, write=self.folder.write, name=name, mend=True)
        if self.method.tries and name == RESULTS:
            log.borrow(self.log(TRIED).results)
        return log

    def tower_with(self, weights: Mapping[str, Tensor]) -> ImageTower:
        """Return the image tower with these weights on the device of the run; on a CPU, nothing is copied."""
        tower = with_weights(self.base.tower(), weights)
        move(tower, self.args.device)
        return tower

    def evaluator(self, *thetas: Mapping[str, Tensor]) -> Evaluator:
        """Return an evaluator; `precision: auto` is resolved once per run, for theta_0 and these weights."""
        precision = self.options.precision
        if precision == "auto":
            precision = self.folder.load_precision() or self._compare_precisions(thetas)
        return self._evaluator_in(precision)

    def _evaluator_in(self, precision: Precision) -> Evaluator:
        accelerator, args = self.args.make_accelerator(), self.args
        batch_size = args.given_eval_batch_size
        onednn = self.folder.load_onednn() if args.onednn is None else args.onednn
        options = {"compile": args.torch_compile, "onednn": onednn}
        return Evaluator(accelerator, batch_size=batch_size, precision=precision, **options)

    def _compare_precisions(self, thetas: Sequence[Mapping[str, Tensor]]) -> Precision:
        towers = (self.tower_with(theta) for theta in (self.base.theta_0, *thetas))
        check = compare_precisions(towers, self.tasks, self._evaluator_in("fp32"))
        wait_for_everyone()
        self.folder.save_precision(asdict(check) | {"precision": check.precision})
        return check.precision
