"""A Slurm of loopback machines: `srun` starts the command once for each machine, all on this one."""

import os
from pathlib import Path


SRUN = """#!/usr/bin/env bash
[ "$1" = --kill-on-bad-exit=1 ] && shift
pids=()
for ((node = 0; node < SLURM_NNODES; node++)); do
    SLURM_NODEID=$node setsid "$@" &
    pids+=($!)
done
printf '%s\\n' "${pids[@]}" > "$SLURM_PIDS"
failed=0
for ((node = 0; node < SLURM_NNODES; node++)); do
    wait -n && continue
    code=$?
    ((failed)) || failed=$code
    for pid in "${pids[@]}"; do kill -TERM -- "-$pid" 2>/dev/null; done
done
exit "$failed"
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1 $2 $3" = "show hostnames $SLURM_JOB_NODELIST" ] && printf '127.0.0.1\\nlocalhost\\n'
"""


def fake_slurm(folder: Path, *, nodes: int, processes: int, job: int = 4711, **programs: str) -> dict[str, str]:
    """Write `srun`, `scontrol` and other programs, and return the environment of a job on these machines.

    `folder/pids` will hold the process group of each machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ({"srun": SRUN, "scontrol": SCONTROL} | programs).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    job_variables = {"SLURM_NNODES": str(nodes), "SLURM_JOB_NODELIST": "machine[0-1]", "SLURM_JOB_ID": str(job)}
    return {
        **os.environ,
        **job_variables,
        "SLURM_PIDS": str(folder / "pids"),
        "GPUS_PER_NODE": str(processes),
        "PATH": f"{folder}:{os.environ['PATH']}",
    }
