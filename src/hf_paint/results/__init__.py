"""Records, the alpha curve, the choice of alpha, robustness, run folders, and the comparison of runs."""

from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result, ResultLog, read_results
from hf_paint.results.robustness import effective_robustness, fit_baseline, relative_robustness
from hf_paint.results.robustness_table import robustness_table


__all__ = [
    "AlphaCurve",
    "Result",
    "ResultLog",
    "effective_robustness",
    "fit_baseline",
    "read_results",
    "relative_robustness",
    "robustness_table",
]
