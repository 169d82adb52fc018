"""``udr serve`` as it is run: a process, a port, a real encoder."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType


@contextmanager
def serving(
    *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``udr serve`` until the block ends; yields the process, and the address that it printed."""
    command = [sys.executable, "-c", "import sys; from udr.cli import main; sys.exit(main())", "serve", *arguments]
    # What exporting a model takes is no matter here.
    command += ["--port", "0", "--device", "cpu", "--engine", "torch"]
    paths = os.pathsep.join(path for path in sys.path if path)
    fixed = {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    variables = {**os.environ, **fixed, **environment}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)
    # A service that hangs must not hang the tests.
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"udr: serving 3 tasks, 62 demonstrations at (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line + process.stderr.read()
        yield process, found.group(1)
    finally:
        timer.cancel()
        process.kill()
        process.communicate()
