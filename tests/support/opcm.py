"""OPCM as its paper describes it, with complete decompositions and one model after the other."""

import numpy as np
import torch


def opcm_written_out(theta_0, thetas, threshold):
    """Merge in float64, each time scaled to the mean norm of the models so far, with lambda carried along."""
    taus = [{n: theta[n].double().numpy() - theta_0[n].double().numpy() for n in theta_0} for theta in thetas.values()]
    norms = [np.sqrt(sum((tau[n] ** 2).sum() for n in tau)) for tau in taus]
    merged, previous_lambda = taus[0], 1.0
    for number, tau in enumerate(taus[1:], 2):
        new = {}
        for name, change in tau.items():
            if change.ndim == 2 and "embedding" not in name:
                u, s, vt = np.linalg.svd(merged[name], full_matrices=True)
                above = np.flatnonzero(np.cumsum(s) / s.sum() > threshold)
                rank = above[0] if len(above) else len(s)
                inside = u.T @ change @ vt.T
                np.fill_diagonal(inside, 0)
                inside[:rank, :rank] = 0
                change = u @ inside @ vt
            new[name] = previous_lambda * merged[name] + change
        length, mean = np.sqrt(sum((x**2).sum() for x in new.values())), np.mean(norms[:number])
        previous_lambda = length / mean
        merged = {name: x / previous_lambda for name, x in new.items()}
    return {name: theta_0[name].double() + torch.from_numpy(merged[name]) for name in theta_0}
