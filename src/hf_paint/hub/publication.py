"""What a run publishes: its branches, their cards, and their files, which are made one branch at a time."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self, cast

import torch
import yaml
from torch import nn

from hf_paint.adapters.patch import save_patch
from hf_paint.adapters.patch_config import PatchDtype
from hf_paint.errors import InputError, JobError
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights
from hf_paint.hub.card_metadata import benchmark_id
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.card_text import alpha_phrase
from hf_paint.hub.model_card import render_model_card
from hf_paint.merging.base import RecordedInformation
from hf_paint.merging.path import Line, WeightPath
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.stored import StoredTower
from hf_paint.repositories import commit_of, folder_of
from hf_paint.results.alphas import Alpha, Coefficients, format_alpha
from hf_paint.results.run_folder import PUSH_PREFIX, RunFolder, variant_name
from hf_paint.weights.checkpoints import interpolate_checkpoints
from hf_paint.weights.folders import COMPANIONS
from hf_paint.weights.headers import WEIGHTS, read_checkpoint
from hf_paint.weights.layers import IMAGE_TOWER


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A run as a repository.

    Attributes:
        run: The run folder.
        repo_id: The repository.
        source: What its cards are made of.
        base_folder: The base, as files; theta_0 of the run where a head was trained.
        branches: Branch -> its alpha or coefficients, `main` last; None for a delta.
        delta: How the delta is stored, if there is one.
    """

    run: RunFolder
    repo_id: str
    source: CardSource
    base_folder: Path
    branches: Mapping[str, Alpha | None]
    delta: PatchDtype | None = None

    @classmethod
    def from_run(
        cls,
        folder: Path,
        repo_id: str,
        *,
        alphas: Sequence[float] | None = None,
        base_model_id: str | None = None,
        delta: PatchDtype | None = None,
    ) -> Self:
        """Read a run folder, and check that everything that is to be published is there.

        Raises:
            InputError: If the run chose no alpha, an alpha was not evaluated, or the base has no id or has changed.
        """
        run = RunFolder(folder, write=True)
        source = CardSource.from_run(run, base_model_id=base_model_id)
        if source.base_model_id is None:
            raise InputError(
                f"The run in {folder} started from a folder, and a card names its base by an id on the Hub: "
                "--base_model_id, such as openai/clip-vit-base-patch32."
            )
        base_folder = _base_folder(str(source.recipe["model"]), str(source.recipe.get("model_revision", "main")))
        if fingerprint_weights(StoredTower(base_folder)) != source.recipe["base_fingerprint"]:
            raise InputError(
                f"The base {source.recipe['model']} has changed since the run: its image tower is another."
            )
        for asked, what in ((delta, "A delta"), (alphas, "A choice of alphas")):
            if asked and isinstance(source.selected, Coefficients):
                raise InputError(f"{what} is for a run with one alpha; that in {folder} is {source.strategy}.")
        if run.theta_0.exists():  # with the head
            if delta:
                raise InputError(f"A delta is that of an image tower, and {folder} trained a head too: push variants.")
            base_folder = run.theta_0
        variants = {} if delta else _variants(source, alphas)
        branches: dict[str, Alpha | None] = {**variants, "main": None if delta else source.selected}
        publication = cls(
            run=run, repo_id=repo_id, source=source, base_folder=base_folder, branches=branches, delta=delta
        )
        if delta and not isinstance(publication.path, Line):
            raise InputError(
                f"A delta is for models on a line, and the method '{source.method.name}' takes another path."
            )
        return publication

    @property
    def path(self) -> WeightPath:
        """The image towers from theta_0 to theta_1."""
        theta_1 = self.run.theta_1 if self.run.theta_1.exists() else self.base_folder
        information = RecordedInformation(self.run)
        return self.source.method.path(StoredTower(self.base_folder), StoredTower(theta_1), information)

    @property
    def num_bytes(self) -> int:
        """The size of the weights of one branch, about."""
        base, bytes_each = read_checkpoint(self.base_folder), {"float32": 4}.get(self.source.save_dtype, 2)
        if self.delta:
            return (4 if self.delta == "float32" else 2) * sum(
                tensor.size for name, tensor in base.tensors.items() if name.startswith(IMAGE_TOWER)
            )
        return bytes_each * sum(tensor.size for tensor in base.tensors.values())

    def fingerprint(self, alpha: Alpha | None) -> str:
        """Return the fingerprint of the weights of a branch."""
        if alpha is not None:
            return self.source.fingerprint(alpha)
        theta_1 = fingerprint_weights(StoredTower(self.run.theta_1))
        return fingerprint_values("delta", self.delta, self.source.recipe["base_fingerprint"], theta_1)

    def card(self, branch: str) -> str:
        """Return the card of a branch."""
        alpha = self.branches[branch]
        if alpha is None:
            return render_model_card(self.source, repo_id=self.repo_id, delta=self.fingerprint(None))
        alphas = {name: held for name, held in self.branches.items() if name != "main" and held is not None}
        return render_model_card(self.source, alpha=alpha, repo_id=self.repo_id, branches=alphas)

    def title(self, alpha: Alpha | None) -> str:
        """Return the message of the commit."""
        return "theta_1 - theta_0" if alpha is None else f"Weights and card at {alpha_phrase(alpha)}"

    def make_model(self, alpha: Alpha | None, folder: Path) -> None:
        """Write the model of a branch: weights, config, tokenizer and processor; or the delta."""
        if alpha is None:
            save_patch(
                StoredTower(self.base_folder),
                StoredTower(self.run.theta_1),
                folder,
                base_model_id=self.source.base_model_id,
                base_revision=commit_of(self.base_folder),
                alpha=cast(float, self.source.selected),  # of a run with one alpha
                dtype=self.delta or "float32",
                patching_tasks=self.source.curve.tasks["patching"],
            )
        elif isinstance(alpha, Coefficients):
            last = alpha == self.source.selected
            patched = self.run.patched if last else self.run.step(len(alpha)).patched
            interpolate_checkpoints(self.base_folder, patched, {1.0: folder}, save_dtype=self.source.save_dtype)
        elif alpha != 0 and not isinstance(self.path, Line):
            model, processor, _ = load_clip(str(self.base_folder))
            self.path.write(alpha, model.state_dict())
            cast(nn.Module, model).to(getattr(torch, self.source.save_dtype))
            save_clip(model, processor, folder)
        else:
            theta_1 = self.run.theta_1 if self.run.theta_1.exists() else self.base_folder
            interpolate_checkpoints(
                self.base_folder, theta_1, {alpha: folder}, save_dtype=self.source.save_dtype, extrapolate=True
            )

    def write_card(self, card: str, folder: Path, others: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write the card, its plots and other texts."""
        for name, text in {"README.md": card, **others}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        for plot in self.run.plots:
            shutil.copyfile(plot, folder / plot.name)

    def clean_up(self) -> None:
        """Remove what a push that was killed left behind."""
        for stale in self.run.path.glob(f"{PUSH_PREFIX}*"):
            shutil.rmtree(stale, ignore_errors=True)

    def eval_results(self, alpha: Alpha | None) -> dict[str, str]:
        """Return `.eval_results/` as path -> text: one file for each task that has a data set on the Hub."""
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

        texts = {}
        for task in self.source.tasks:
            for result in self.source.curve.results:
                found = benchmark_id(task)
                if found and (result.task, result.alpha, result.split) == (task.name, alpha, self.source.split):
                    entry = EvalResultEntry(
                        dataset_id=found,
                        task_id=task.config or "default",
                        value=round(100 * result.accuracy, 4),
                        notes=f"top-1 accuracy on {result.split}, {alpha_phrase(result.alpha)}",
                    )
                    text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
                    texts[f".eval_results/{task.name}.yaml"] = text
        return texts


def _variants(source: CardSource, alphas: Sequence[float] | None) -> dict[str, Alpha]:
    """Return branch -> its alpha: those that were asked for, or all that were evaluated in full.

    A sequential run has a branch for each step, and a parallel one only the base beside the chosen combination.
    """
    if source.strategy == "sequential":
        return {variant_name(a): a for a in source.curve.alphas if isinstance(a, Coefficients)}
    exact = [alpha for alpha in source.curve.exact_alphas if not isinstance(alpha, Coefficients)]
    variants = sorted(set(exact if alphas is None else alphas))
    for alpha in variants:
        if alpha not in exact:
            raise InputError(
                f"Alpha {format_alpha(alpha)} was not evaluated in full in this run, and a card tells only of what "
                "was. Run `hf-paint patch` again with it among the alphas, and `sweep: full`."
            )
    return {variant_name(alpha): alpha for alpha in variants}


def _base_folder(model: str, revision: str) -> Path:
    missing_folder = Path(model).is_absolute() and not Path(model).is_dir()
    if missing_folder or model.startswith("a model in memory"):
        raise InputError(f"The base of the run is {model}, which is not there: a push needs its files.")
    return folder_of(model, [*COMPANIONS, *WEIGHTS], revision, failure=JobError)
