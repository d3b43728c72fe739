"""Merges the plain way, as the code of their papers does: all state dicts in memory, then the arithmetic.

Each function takes theta_0 and the state dicts of the fine-tuned models and returns the merged state dict.
"""

from collections.abc import Callable, Mapping
from itertools import combinations

import torch
from torch import Tensor


Weights = dict[str, Tensor]


def uniform_soup(theta_0: Weights, thetas: list[Weights]) -> Weights:
    """Average the models."""
    return {name: sum(theta[name] for theta in thetas) / len(thetas) for name in theta_0}


def task_arithmetic(theta_0: Weights, thetas: list[Weights]) -> Weights:
    """Add the task vectors."""
    vectors = task_vectors(theta_0, thetas)
    return {name: x + sum(vector[name] for vector in vectors) for name, x in theta_0.items()}


def ties(theta_0: Weights, thetas: list[Weights], density: float = 0.2) -> Weights:
    """Flatten every task vector, keep the largest entries, elect signs, and average what agrees."""
    flat = torch.stack([flatten(theta) - flatten(theta_0) for theta in thetas])
    smallest = flat.abs().kthvalue(flat.shape[1] - int(density * flat.shape[1]) + 1, dim=1, keepdim=True).values
    flat = torch.where(flat.abs() >= smallest, flat, 0)
    signs = flat.sum(dim=0).sign()
    signs[signs == 0] = 1
    agrees = torch.where(signs > 0, flat > 0, flat < 0)
    merged = (flat * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)
    return unflatten(flatten(theta_0) + merged, theta_0)


def dare(theta_0: Weights, thetas: list[Weights], density: float = 0.1) -> Weights:
    """Drop most entries of each task vector at random, and add the rest, rescaled."""
    vectors = task_vectors(theta_0, thetas)
    for vector in vectors:
        for name, tau in vector.items():
            vector[name] = tau * torch.bernoulli(torch.full_like(tau, density)) / density
    return {name: x + sum(vector[name] for vector in vectors) for name, x in theta_0.items()}


def model_stock(theta_0: Weights, thetas: list[Weights]) -> Weights:
    """Move each tensor towards the mean by the ratio that its angle between the models gives."""
    vectors, merged, k = task_vectors(theta_0, thetas), {}, len(thetas)
    for name, x in theta_0.items():
        pairs = combinations([vector[name].flatten().double() for vector in vectors], 2)
        cosines = [float(torch.nn.functional.cosine_similarity(a, b, dim=0)) for a, b in pairs]
        cosine = min(max(sum(cosines) / len(cosines), 0), 1)
        ratio = k * cosine / (1 + (k - 1) * cosine)
        merged[name] = x + ratio * sum(vector[name] for vector in vectors) / k
    return merged


def tsv(theta_0: Weights, thetas: list[Weights]) -> Weights:
    """TSV-M, Algorithm 1, with the SVDs of torch."""

    def merge(taus: list[Tensor]) -> Tensor:
        number = min(taus[0].shape) // len(taus)
        parts = [torch.linalg.svd(tau, full_matrices=False) for tau in taus]
        left = torch.cat([u[:, :number] for u, _, _ in parts], dim=1)
        values = torch.cat([s[:number] for _, s, _ in parts])
        right = torch.cat([v[:number] for _, _, v in parts])
        return (orthogonal(left) * values) @ orthogonal(right)

    return by_matrix(theta_0, thetas, merge)


def iso_c(theta_0: Weights, thetas: list[Weights]) -> Weights:
    """The sum of the task vectors with the mean of its singular values."""

    def merge(taus: list[Tensor]) -> Tensor:
        u, s, v = torch.linalg.svd(sum(taus), full_matrices=False)
        return s.mean() * (u @ v)

    return by_matrix(theta_0, thetas, merge)


def iso_cts(theta_0: Weights, thetas: list[Weights], common_fraction: float = 0.8) -> Weights:
    """The same in a common subspace and one subspace per task."""

    def merge(taus: list[Tensor]) -> Tensor:
        size, tasks = min(taus[0].shape), len(taus)
        specific = round((size - int(size * common_fraction)) / tasks)
        common = size - tasks * specific
        u, s, v = torch.linalg.svd(sum(taus), full_matrices=False)
        left, values, right = [u[:, :common]], [s[:common]], [v[:common]]
        for tau in taus:
            rest = (tau - left[0] @ (left[0].T @ tau)).double()  # without full rank: float32 does not always converge
            u_i, s_i, v_i = (x.float() for x in torch.linalg.svd(rest, full_matrices=False))
            left.append(u_i[:, :specific])
            values.append(s_i[:specific])
            right.append(v_i[:specific])
        return torch.cat(values).mean() * (orthogonal(torch.cat(left, dim=1)) @ orthogonal(torch.cat(right)))

    return by_matrix(theta_0, thetas, merge)


PLAIN: Mapping[str, Callable[[Weights, list[Weights]], Weights]] = {
    merge.__name__: merge for merge in (uniform_soup, task_arithmetic, ties, dare, model_stock, tsv, iso_c, iso_cts)
}


def task_vectors(theta_0: Weights, thetas: list[Weights]) -> list[Weights]:
    """Subtract theta_0 from every model."""
    return [{name: theta[name] - x for name, x in theta_0.items()} for theta in thetas]


def flatten(theta: Weights) -> Tensor:
    """Return all tensors as one vector."""
    return torch.cat([x.flatten() for x in theta.values()])


def unflatten(vector: Tensor, like: Weights) -> Weights:
    """Return a vector as tensors of these shapes."""
    parts = vector.split([x.numel() for x in like.values()])
    return {name: part.view_as(x) for (name, x), part in zip(like.items(), parts, strict=True)}


def orthogonal(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with orthonormal rows or columns."""
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ v


def by_matrix(theta_0: Weights, thetas: list[Weights], merge: Callable[[list[Tensor]], Tensor]) -> Weights:
    """Merge matrices, and average other tensors."""
    vectors, merged = task_vectors(theta_0, thetas), {}
    for name, x in theta_0.items():
        taus = [vector[name] for vector in vectors]
        merged[name] = x + (merge(taus) if x.ndim == 2 else sum(taus) / len(taus))
    return merged
