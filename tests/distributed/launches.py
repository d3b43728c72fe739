"""Run several launches of `accelerate launch`, whose processes are forks of this one, which imports everything once.

    launches.py '[[{"NAME": "value"}, ["--config_file", ...], "output.txt"], ...]'

Each launch has its environment, the arguments of `accelerate launch`, and the file for all that it prints.
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from importlib import import_module

from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler


EVERYTHING = (
    *("torch.distributed.fsdp", "torch.distributed.run", "transformers.models.clip.modeling_clip"),
    *("hf_paint.cli.run_recipe", "hf_paint.patching", "blank_plots"),
)


def fork(call, environment, output=None):
    """Call a function in a new process that leaves as Python does at its end, and return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    if number := os.fork():
        return number
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(environment)
        for stream in (1, 2) if output else ():
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        call()
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Script:
    """A script that runs in a fork, with what torch asks of `subprocess.Popen`."""

    def __init__(self, arguments, environment):
        executable, unbuffered, script, *flags = self.arguments = arguments
        assert (executable, unbuffered) == (sys.executable, "-u")

        def call():
            sys.argv = [script, *flags]
            runpy.run_path(script, run_name="__main__")

        self.pid, self.returncode = fork(call, environment), None

    def poll(self):
        """Return the exit code, or None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.arguments, seconds)
            time.sleep(0.01)
        return self.returncode


def main(launches):
    for name in EVERYTHING:
        import_module(name)
    SubprocessHandler._popen = lambda handler, arguments, environment: Script(arguments, environment)
    for environment, arguments, output in launches:
        parsed = launch_command_parser().parse_args(arguments)
        number = fork(lambda parsed=parsed: launch_command(parsed), os.environ | environment, output)
        if code := os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
