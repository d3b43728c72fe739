"""A run as a repository: its branches with their cards and files, written one branch at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

import torch

from hf_paint.adapters.patch import save_patch
from hf_paint.adapters.patch_config import PatchDtype
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.hub.card_metadata import eval_result_files
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.model_card import render_model_card
from hf_paint.hub.verification import find_base, is_patched_at, measured_path, theta_0_of
from hf_paint.merging.path import Line, Steps, WeightPath
from hf_paint.models.classifier import ClassificationHead, weights_of
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.stored import StoredTower
from hf_paint.models.towers import move
from hf_paint.repositories import commit_of
from hf_paint.results.alphas import Alpha, Coefficients, alpha_phrase, by_name, canonical_alpha, format_alpha
from hf_paint.results.run_folder import RunFolder
from hf_paint.weights.checkpoints import interpolate_checkpoints
from hf_paint.weights.folders import HEAD_CONFIG, TASKS, copy_files, own_file
from hf_paint.weights.headers import read_checkpoint
from hf_paint.weights.layers import IMAGE_TOWER
from hf_paint.weights.manifest import MANIFEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A run as a repository.

    Attributes:
        run: Run folder.
        repo_id: Hub repository id.
        source: Content of the cards.
        base_folder: Folder of the base, or `theta_0` of a run that trained a head.
        path: Verified path of weights from theta_0 to the branches that are not copied from `patched/`.
        branches: Mapping from branch to alpha or coefficients (None for a delta), `main` last.
        delta: Dtype of a delta; None for complete models.
    """

    run: RunFolder
    repo_id: str
    source: CardSource
    base_folder: Path
    path: WeightPath
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
        """Read a run folder and check that everything to publish exists.

        Args:
            folder: Path to the run folder.
            repo_id: Hub repository id.
            alphas: Alphas that get a branch; by default, all that were evaluated.
            base_model_id: Hub repository id of the base, if the run started from a folder.
            delta: Dtype in which to publish `theta_1 - theta_0` instead of complete models.

        Raises:
            InputError: If no alpha was selected, an alpha was not evaluated, the base is not on the Hub or has
                changed, or the run does not support a delta.
        """
        run = RunFolder(folder, write=True)
        source = CardSource.from_run(run, base_model_id=base_model_id)
        if source.base_model_id is None:
            raise InputError(
                f"The run in {folder} started from a folder, but a card needs the Hub repository id of the base. "
                "Pass --base_model_id, for example openai/clip-vit-base-patch32."
            )
        for option, name in ((delta, "A delta"), (alphas, "A choice of alphas")):
            if option and isinstance(source.selected, Coefficients):
                raise InputError(f"{name} requires a run with one alpha; the run in {folder} is {source.strategy}.")
        if delta and not source.method.is_line:
            raise InputError(
                f"A delta requires a straight path, but that of '{source.method.name}' is not straight. Push variants."
            )
        if delta and run.theta_0.exists():
            raise InputError(f"A delta contains no head, but the run in {folder} trained one. Push variants.")
        base_folder = theta_0_of(run, find_base(source, run))
        variants = {} if delta else _variants(source, alphas)
        branches: dict[str, Alpha | None] = {**variants, "main": None if delta else source.selected}
        given = source.curve.alphas if delta else [alpha for alpha in branches.values() if alpha is not None]
        computed = [alpha for alpha in given if delta or not is_patched_at(alpha, source, run)]
        return cls(
            run=run,
            repo_id=repo_id,
            source=source,
            base_folder=base_folder,
            path=measured_path(source, run, base_folder, computed),
            branches=branches,
            delta=delta,
        )

    @property
    def tasks(self) -> list[Path]:
        """Path to `tasks.json`; empty for a run of an earlier version, which has none."""
        return [self.run.tasks] if self.run.tasks.exists() else []

    def beside_card(self, branch: str) -> list[Path]:
        """Return the files that describe a branch beside its card: `tasks.json` and, on `main`, the report."""
        reports = [self.run.report] if branch == "main" and self.run.report.exists() else []
        return [*self.tasks, *reports]

    @property
    def num_bytes(self) -> int:
        """Approximate size of the weights on one branch, in bytes."""
        tensors = read_checkpoint(self.base_folder).tensors
        prefix = IMAGE_TOWER if self.delta else ""
        width = 4 if (self.delta or self.source.save_dtype) == "float32" else 2
        return width * sum(tensor.size for name, tensor in tensors.items() if name.startswith(prefix))

    def fingerprint(self, alpha: Alpha | None) -> str:
        """Return the fingerprint of the weights on a branch."""
        if alpha is not None:
            return self.source.fingerprint(alpha)
        return fingerprint_values("delta", self.delta, *self.path.fingerprints)

    def card(self, branch: str) -> str:
        """Return the card for a branch."""
        alpha, beside = self.branches[branch], self.beside_card(branch)
        report = self.run.report.name if self.run.report in beside else None
        if alpha is None:
            return render_model_card(self.source, repo_id=self.repo_id, delta=self.fingerprint(None), report=report)
        variants = {name: value for name, value in self.branches.items() if name != "main" and value is not None}
        return render_model_card(self.source, alpha=alpha, repo_id=self.repo_id, branches=variants, report=report)

    def title(self, alpha: Alpha | None) -> str:
        """Return the commit message for a branch."""
        return "theta_1 - theta_0" if alpha is None else f"Weights and card at {alpha_phrase(alpha)}"

    def write_model(self, alpha: Alpha | None, folder: Path) -> None:
        """Write the files of a branch, without its card: a complete model or the delta.

        The selected model is copied from `patched/`; the others are computed.
        """
        if alpha is None:
            self._write_delta(folder)
        elif is_patched_at(alpha, self.source, self.run):
            copy_files(self.run.patched, folder, without=("README.md", "*.png", TASKS, MANIFEST))
        elif isinstance(self.path, Steps) and isinstance(alpha, Coefficients):
            self._interpolate(self.run.step(len(alpha)).patched, 1.0, folder)  # which the run has in float32
        elif alpha == 0:
            self._interpolate(self.base_folder, 0.0, folder)
        elif isinstance(self.path, Line) and not isinstance(alpha, Coefficients):
            self._interpolate(self.run.theta_1, alpha, folder)
        else:
            self._write_on_path(alpha, folder)

    def _write_on_path(self, alpha: Alpha, folder: Path) -> None:
        """Write a model that is not on a straight line from file to file, with its trained head if there is one."""
        model, processor, _ = load_clip(self.base_folder)
        dtype: torch.dtype = getattr(torch, self.source.save_dtype)
        head = ClassificationHead.load(self.base_folder) if (self.base_folder / HEAD_CONFIG).exists() else None
        self.path.write(alpha, weights_of(model, head))
        save_clip(move(model, dtype=dtype), processor, folder)
        if head is not None:
            head.save(folder, dtype=dtype)

    def _interpolate(self, theta_1: Path, alpha: float, folder: Path) -> None:
        """Write a model between the base and another one, in the dtype of the run."""
        dtype = self.source.save_dtype
        interpolate_checkpoints(self.base_folder, theta_1, {alpha: folder}, save_dtype=dtype, extrapolate=True)

    def _write_delta(self, folder: Path) -> None:
        selected = self.source.selected
        save_patch(
            StoredTower(self.base_folder),
            StoredTower(self.run.theta_1),
            folder,
            base_model_id=self.source.base_model_id,
            base_revision=commit_of(self.base_folder),
            alpha=None if isinstance(selected, Coefficients) else selected,
            dtype=self.delta or "float32",
            patching_tasks=self.source.curve.tasks["patching"],
        )

    def description(
        self, branch: str, card: str, results: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, bytes]:
        """Return the files that describe the weights: the card, its plots, what stands beside it, `.eval_results/`."""
        texts = {"README.md": card, **results}
        paths = (*self.run.plots, *self.beside_card(branch))
        return {name: text.encode() for name, text in texts.items()} | {
            path.name: own_file(path).read_bytes() for path in paths
        }

    def eval_results(self, alpha: Alpha | None) -> dict[str, str]:
        """Return the paths and contents of the files in `.eval_results/`; empty for a delta."""
        return {} if alpha is None else eval_result_files(self.source, alpha)


def _variants(source: CardSource, alphas: Sequence[float] | None) -> dict[str, Alpha]:
    """Map branches to alphas: the given ones, or by default all that were evaluated on every image.

    A sequential run has a branch for each step. Besides `main`, a parallel run has only a branch for the base.
    """
    if source.strategy == "sequential":
        return by_name(alpha for alpha in source.curve.alphas if isinstance(alpha, Coefficients))
    evaluated = by_name(alpha for alpha in source.curve.exact_alphas if not isinstance(alpha, Coefficients))
    wanted = evaluated if alphas is None else by_name(sorted(map(canonical_alpha, alphas)))
    for name, alpha in wanted.items():
        if name not in evaluated:
            raise InputError(
                f"Alpha {format_alpha(alpha)} was not evaluated in full in this run, and a card shows only measured "
                "numbers. Rerun `hf-paint patch` with this alpha and `sweep: full`."
            )
    return {name: evaluated[name] for name in wanted}  # 0.333333 is the name of 1/3
