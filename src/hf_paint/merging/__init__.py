"""Methods that compute theta_alpha from theta_0 and fine-tuned models, one module per paper."""

from hf_paint.merging.averaging import EMACallback, SWACallback
from hf_paint.merging.base import Method
from hf_paint.merging.dare import dare
from hf_paint.merging.fisher import estimate_fisher, interpolate_fisher
from hf_paint.merging.interpolation import combine, interpolate, interpolated
from hf_paint.merging.isotropic import iso_c, iso_cts
from hf_paint.merging.layer_inputs import collect_grams
from hf_paint.merging.layerwise import interpolate_layerwise, lines_alphas
from hf_paint.merging.learned_soups import learned_soup
from hf_paint.merging.model_stock import interpolate_model_stock
from hf_paint.merging.projection import merge_by_projection
from hf_paint.merging.registry import METHODS, read_method
from hf_paint.merging.regmean import regmean
from hf_paint.merging.soups import greedy_soup, uniform_soup
from hf_paint.merging.task_arithmetic import add_task_vectors
from hf_paint.merging.ties import ties
from hf_paint.merging.tsv import tsv


__all__ = [
    "METHODS",
    "EMACallback",
    "Method",
    "SWACallback",
    "add_task_vectors",
    "collect_grams",
    "combine",
    "dare",
    "estimate_fisher",
    "greedy_soup",
    "interpolate",
    "interpolate_fisher",
    "interpolate_layerwise",
    "interpolate_model_stock",
    "interpolated",
    "iso_c",
    "iso_cts",
    "learned_soup",
    "lines_alphas",
    "merge_by_projection",
    "read_method",
    "regmean",
    "ties",
    "tsv",
    "uniform_soup",
]
