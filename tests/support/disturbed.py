"""A small world of models, tasks and runs, and commands in it that can be disturbed.

A command runs in a fork of a process that has imported everything, so it starts at once. It always runs at the same
path, so that files which name it are the same in each run.
"""

import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
import torch

from blank_plots import blank_plots
from drawn_tasks import write_task_yaml
from forks import Fork
from hf_paint.cli.main import main
from tiny_families import make_tiny


TRAINING = (
    *("--max_steps", "4", "--save_steps", "2", "--warmup_steps", "1", "--learning_rate", "1e-3", "--use_cpu", "True"),
    *("--per_device_train_batch_size", "8", "--alphas", "0", "0.5", "1", "--num_examples", "2"),
)
INTERRUPTED = "hf-paint: interrupted; run the same command again to resume"
LOCKS = ".lock"
