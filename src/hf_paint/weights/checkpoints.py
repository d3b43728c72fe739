"""Interpolate checkpoints of any size from file to file, using little memory."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm

from hf_paint.errors import InputError
from hf_paint.files import save_together
from hf_paint.weights.compatibility import check_alpha, check_coefficients, check_compatible
from hf_paint.weights.folders import HEAD_CONFIG, WEIGHTS_AND_HEAD, check_free, classes_of_head, copy_companions
from hf_paint.weights.headers import FLOATS, INDEX, Checkpoint, StoredTensor, read_checkpoint
from hf_paint.weights.streaming import Tensors, check_values, equal, singled_out, stream


def interpolate_checkpoints(
    folder_0: str | Path,
    folder_1: str | Path,
    outputs: Mapping[float, str | Path],
    *,
    save_dtype: str | None = None,
    extrapolate: bool = False,
    overwrite: bool = False,
    show_progress: bool = False,
) -> None:
    """Interpolate between two model folders, before and after fine-tuning, for all alphas in a single pass.

    The weights are bit-identical to those from `interpolate`; at alpha 0 and 1, the weight files are simply copied.
    The output has the same number of weight files as theta_0, and all other files (config, tokenizer, processor) are
    copied from theta_0. Integer tensors that only one of the models has, e.g. position ids in older checkpoints, are
    not interpolated: they are copied if theta_0 has them, and dropped otherwise.

    Args:
        folder_0: Folder of the model before fine-tuning, with one or more safetensors files.
        folder_1: Folder of the model after fine-tuning, with the same tensor names and shapes.
        outputs: alpha -> output folder. Files are renamed to their final names once all of them are complete.
        save_dtype: Dtype for saving floating-point tensors: `float32`, `bfloat16` or `float16`. Defaults to the dtype
            of the models. Required if the two models are stored in different dtypes.
        extrapolate: Allow an alpha outside [0, 1].
        overwrite: Replace existing models in the output folders.
        show_progress: Show a progress bar.

    Raises:
        InputError: If the models are not compatible, a file is damaged, an alpha is out of range, or an output folder
            already contains a model. Nothing is written in this case.

    Example:
        >>> interpolate_checkpoints(model_folder, model_folder, {0.3: tmp_path / "alpha-0.30"})
        >>> (tmp_path / "alpha-0.30" / "model.safetensors").exists()
        True
    """
    for alpha in outputs:
        check_alpha(alpha, extrapolate=extrapolate)
    _combine(
        folder_0,
        {"theta_1": folder_1},
        [_Output(Path(folder), (alpha,)) for alpha, folder in outputs.items()],
        save_dtype=save_dtype,
        overwrite=overwrite,
        show_progress=show_progress,
    )


def combine_checkpoints(
    folder_0: str | Path,
    folders: Mapping[str, str | Path],
    outputs: Mapping[str | Path, Mapping[str, float]],
    *,
    save_dtype: str | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
) -> None:
    """Combine several model folders that were fine-tuned from the same base.

    The weights are bit-identical to those from `combine`. Otherwise, this works like `interpolate_checkpoints`.

    Args:
        folder_0: Folder of the model before fine-tuning.
        folders: Model -> folder of the model after fine-tuning.
        outputs: Output folder -> model -> coefficient.
        save_dtype: See `interpolate_checkpoints`.
        overwrite: Replace existing models in the output folders.
        show_progress: Show a progress bar.

    Raises:
        InputError: Same as for `interpolate_checkpoints`, and if a model has no coefficient.

    Example:
        >>> folders = {"mnist": model_folder, "cars": model_folder}
        >>> combine_checkpoints(model_folder, folders, {tmp_path / "both": {"mnist": 0.5, "cars": 0.25}})
        >>> (tmp_path / "both" / "model.safetensors").exists()
        True
    """
    for alphas in outputs.values():
        check_coefficients(folders, alphas)
    _combine(
        folder_0,
        folders,
        [_Output(Path(folder), tuple(alphas[name] for name in folders)) for folder, alphas in outputs.items()],
        save_dtype=save_dtype,
        overwrite=overwrite,
        show_progress=show_progress,
    )


@dataclass(frozen=True, slots=True)
class _Output:
    """Output folder, and the coefficients of the fine-tuned models for this output."""

    folder: Path
    coefficients: tuple[float, ...]


def _combine(
    folder_0: str | Path,
    folders: Mapping[str, str | Path],
    outputs: Sequence[_Output],
    *,
    save_dtype: str | None,
    overwrite: bool,
    show_progress: bool,
) -> None:
    dtype = header_dtype(save_dtype)
    check_free([output.folder for output in outputs], [folder_0, *folders.values()], overwrite=overwrite)
    thetas = [read_checkpoint(folder) for folder in (folder_0, *folders.values())]
    for name, theta in zip(folders, thetas[1:], strict=True):
        _check_tensors(thetas[0], theta, name, save_dtype)
        _check_classes(thetas[0], theta, name)
    mixed = [output.coefficients for output in outputs if singled_out(output.coefficients) is None]
    for position, theta in enumerate(thetas[1:]):
        if any(coefficients[position] for coefficients in mixed):
            _check_integers(thetas[0], theta)
    with ExitStack() as stack:
        computed = []
        for output in outputs:
            partial = stack.enter_context(save_together(output.folder, replaces=WEIGHTS_AND_HEAD))
            copy_companions(thetas[0].folder, partial, save_dtype)
            model = singled_out(output.coefficients)
            if model is not None and thetas[model].is_stored_in(dtype):
                check_values(thetas[model].tensors)
                _copy_weights(thetas[model], partial)
            else:
                computed.append((output.coefficients, lay_out(thetas[0], partial, dtype)))
        _compute(thetas, computed, show_progress=show_progress)


def _copy_weights(theta: Checkpoint, partial: Callable[[str], Path]) -> None:
    for path in theta.paths:
        shutil.copyfile(path, partial(path.name))


def _compute(
    thetas: Sequence[Checkpoint], outputs: Sequence[tuple[Sequence[float], Tensors]], *, show_progress: bool
) -> None:
    """Fill the files created by `lay_out`. Integer tensors that a model lacks are copied from theta_0."""
    total = sum(tensor.nbytes for _, tensors in outputs for tensor in tensors.values())
    with tqdm(total=total, desc="Interpolating", unit="B", unit_scale=True, disable=not show_progress) as progress:
        for num_bytes in stream([thetas[0].tensors | theta.tensors for theta in thetas], outputs):
            progress.update(num_bytes)


def lay_out(theta_0: Checkpoint, partial: Callable[[str], Path], dtype: str | None) -> dict[str, StoredTensor]:
    """Create the weight files of an output at full length but without values, and the index if they are sharded."""
    places: dict[str, StoredTensor] = {}
    for file in theta_0.files:
        header, output = file.stored_at(partial(file.path.name), dtype)
        with output.path.open("wb") as opened:
            opened.write(header)
            opened.truncate(len(header) + sum(tensor.nbytes for tensor in output.tensors.values()))
        places |= output.tensors
    if theta_0.index is not None:
        size = sum(tensor.nbytes for tensor in places.values())
        metadata = (theta_0.index.get("metadata") or {}) | {"total_size": size}
        text = json.dumps(theta_0.index | {"metadata": metadata}, indent=2) + "\n"
        partial(INDEX).write_text(text, encoding="utf-8")
    return places


def _check_tensors(theta_0: Checkpoint, theta: Checkpoint, name: str, save_dtype: str | None) -> None:
    """Check that the tensors can be interpolated. Integer tensors may be missing from one of the models."""
    check_compatible(_weights(theta_0, beside=theta), _weights(theta, beside=theta_0), name, any_float=True)
    shared = theta_0.tensors.keys() & theta.tensors.keys()
    stored = {tensor: (theta_0.tensors[tensor].dtype, theta.tensors[tensor].dtype) for tensor in sorted(shared)}
    differing = [tensor for tensor, (dtype_0, dtype) in stored.items() if dtype_0 != dtype]
    if differing and save_dtype is None:
        raise InputError(
            f"theta_0 and {name} are stored in different dtypes, e.g. '{differing[0]}' "
            f"({' and '.join(stored[differing[0]])}). Set save_dtype to the dtype to save."
        )


def _check_classes(theta_0: Checkpoint, theta: Checkpoint, name: str) -> None:
    """Check that both heads have the same classes in the same order."""
    files = [model.folder / HEAD_CONFIG for model in (theta_0, theta)]
    before, after = (classes_of_head(file) for file in files)
    if before is not None and after is not None and before != after:
        row = next(row for row, pair in enumerate(zip_longest(before, after)) if pair[0] != pair[1])
        raise InputError(
            f"The heads of theta_0 and {name} have different classes; the first difference is in row {row}."
        )


def _weights(theta: Checkpoint, *, beside: Checkpoint) -> dict[str, StoredTensor]:
    """Return the floating-point tensors of `theta`, plus any other tensors it shares with `beside`."""
    return {n: tensor for n, tensor in theta.tensors.items() if tensor.dtype in FLOATS or n in beside.tensors}


def _check_integers(theta_0: Checkpoint, theta: Checkpoint) -> None:
    for name, tensor in theta_0.tensors.items():
        if tensor.dtype not in FLOATS and not equal(tensor, theta.tensors.get(name, tensor)):
            raise InputError(
                f"Integer tensor '{name}' differs between the models. Only floating-point tensors can be interpolated."
            )


def header_dtype(save_dtype: str | None) -> str | None:
    """Return the name of a `save_dtype` in safetensors headers; None stays None."""
    choices = {FLOATS[code]: code for code in ("F32", "BF16", "F16")}
    if save_dtype is not None and save_dtype not in choices:
        raise InputError(f"save_dtype must be one of {', '.join(choices)}, got '{save_dtype}'.")
    return None if save_dtype is None else choices[save_dtype]
