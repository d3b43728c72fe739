import numpy as np
import pytest
import torch
from tqdm.auto import tqdm

from hf_paint import InputError, iso_c, iso_cts, tsv
from hf_paint.merging import task_arithmetic
from task_matrices import (
    MATRICES,
    assert_as_the_oracle,
    assert_merged,
    changes,
    matrix_models,
    only_matrices,
    tsv_written_out,
    turned,
)
from tensors import bits, distance


MERGES = pytest.mark.parametrize("merge", [tsv, iso_c, iso_cts])


@pytest.mark.parametrize("num_tasks", [2, 3, 8])
def test_equals_the_paper_written_out(num_tasks):
    models = matrix_models(num_tasks)
    assert_merged(tsv(*models), *models, tsv_written_out)


def test_the_same_as_reference_code(shared):
    assert_as_the_oracle(shared, "tsv", tsv)


def test_tasks_that_do_not_interfere_are_only_shortened():
    """Two tasks that read and write different features: each keeps its own best approximation."""
    theta_0 = {"w": torch.randn(8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    thetas, expected = {}, theta_0["w"].clone()
    for task, (rows, columns) in {"a": (slice(0, 4), slice(0, 5)), "b": (slice(4, 8), slice(5, 10))}.items():
        tau = torch.randn(4, 5, dtype=torch.float64)
        thetas[task] = {"w": theta_0["w"].clone()}
        thetas[task]["w"][rows, columns] += tau
        expected[rows, columns] += tau
    torch.testing.assert_close(tsv(theta_0, thetas)["w"], expected)


def test_equal_tasks_and_an_unchanged_one():
    """Equal directions count once, and a model without changes adds none of its own."""
    theta_0, thetas = matrix_models(1)
    for pair in ({"a": thetas["a"], "b": thetas["a"]}, {"a": thetas["a"], "b": theta_0}):
        result = tsv(theta_0, pair)
        for name, size in MATRICES.items():
            [tau] = changes(theta_0, thetas, name)
            u, s, v = np.linalg.svd(tau)
            half = min(size) // 2
            best = torch.from_numpy(u[:, :half] @ np.diag(s[:half]) @ v[:half])
            torch.testing.assert_close(result[name], theta_0[name] + best, rtol=0, atol=1e-12)


def test_a_matrix_with_less_than_one_direction_per_task_is_averaged():
    draws = torch.randn(3, 2, 9, generator=torch.Generator().manual_seed(0))
    result = tsv({"w": torch.zeros(2, 9)}, {task: {"w": draw} for task, draw in zip("abc", draws, strict=True)})
    torch.testing.assert_close(result["w"], sum(draws) / 3)


@MERGES
def test_order_of_tasks_and_turns_of_rows_and_columns_change_nothing(merge):
    plain, towers = only_matrices(*matrix_models(3))
    result = merge(plain, towers)
    assert distance(merge(plain, dict(reversed(towers.items()))), result) < 1e-12
    other_0, others, turn = turned(plain, towers)
    assert distance(merge(other_0, others), turn(result)) < 1e-12


@MERGES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_less_precise_weights(merge, dtype):
    """As near to the result in float64 as the dtype allows; what no model changed keeps its bits."""
    theta_0, thetas = matrix_models(3, dtype)
    result = merge(theta_0, thetas)
    assert all(x.dtype == theta_0[name].dtype for name, x in result.items())
    assert all(torch.equal(bits(result[name]), bits(theta_0[name])) for name in ("frozen.weight", "position_ids"))
    exact = merge(*only_matrices(theta_0, thetas))
    for name, x in exact.items():
        rounding = 4e-5 if dtype == torch.float32 else float(x.abs().max()) * torch.finfo(dtype).eps
        torch.testing.assert_close(result[name].double(), x, rtol=0, atol=rounding)


@MERGES
def test_models_are_read_one_tensor_at_a_time(merge):
    theta_0, thetas = matrix_models(2)
    reads = []

    class Read(dict):
        def __init__(self, model, theta):
            super().__init__(theta)
            self.model = model

        def __getitem__(self, name):
            reads.append((name, self.model))
            return super().__getitem__(name)

    merge(theta_0, {task: Read(task, theta) for task, theta in thetas.items()})
    computed = reads[-2 * len(theta_0) :]
    assert computed == [(name, task) for name in theta_0 for task in thetas]


@pytest.mark.parametrize(("merge", "name"), [(tsv, "TSV-M"), (iso_c, "Iso-C"), (iso_cts, "Iso-CTS")])
def test_a_long_merge_shows_how_far_it_is(merge, name, monkeypatch, capsys):
    monkeypatch.setattr(task_arithmetic, "tqdm", lambda *args, **options: tqdm(*args, **options | {"delay": 0}))
    merge(*matrix_models(2))
    assert f"{name}: " in capsys.readouterr().err


@MERGES
def test_wrong_inputs(merge):
    theta_0, thetas = matrix_models(2)
    with pytest.raises(InputError, match="needs at least two fine-tuned models, got 1"):
        merge(theta_0, {"a": thetas["a"]})
    with pytest.raises(InputError, match="Integer tensor 'position_ids' differs"):
        merge(theta_0, thetas | {"b": thetas["b"] | {"position_ids": torch.ones(1, 3, dtype=torch.int64)}})
    with pytest.raises(InputError, match=r"theta_0 and b cannot be interpolated: 1 tensors differ in shape"):
        merge(theta_0, thetas | {"b": thetas["b"] | {"wide.weight": torch.ones(24, 41, dtype=torch.float64)}})
    with pytest.raises(InputError, match="'tall.weight' of b holds NaN or inf"):
        merge(theta_0, thetas | {"b": thetas["b"] | {"tall.weight": torch.full((33, 20), torch.nan).double()}})
