"""Result records, alpha curves, alpha selection, robustness, run folders and run comparison."""

from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result, read_results
from hf_paint.results.result_log import ResultLog
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
