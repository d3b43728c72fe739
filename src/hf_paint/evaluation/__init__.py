"""Evaluate a model on tasks, or sweep over alphas on tasks."""

from hf_paint.evaluation.adaptive_sweep import sweep_adaptively
from hf_paint.evaluation.checking import check_model
from hf_paint.evaluation.ensembles import ensemble_logits, evaluate_ensemble
from hf_paint.evaluation.evaluate import evaluate_tasks
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.evaluation.sweep import sweep_alphas


__all__ = [
    "Evaluator",
    "check_model",
    "ensemble_logits",
    "evaluate_ensemble",
    "evaluate_tasks",
    "prepare_task",
    "sweep_adaptively",
    "sweep_alphas",
]
