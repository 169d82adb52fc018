"""Services that listen: an application in a thread of this process, and ``udr serve`` in its own process."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import uvicorn
from fastapi import FastAPI

from udr_service import listening


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an application until the block ends; yields its address once it is ready."""
    with listening("127.0.0.1", 0) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while httpx2.get(f"{address}/readyz", timeout=30).status_code != 200:
                time.sleep(0.01)
            yield address
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def serving(
    *arguments: str, engine: str | None = "onnx", host: str | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``udr serve`` in a process until the block ends; yields the process, and the address that it printed.

    ``engine`` is None for a service of shards, which has none; torch alone takes seconds to import. ``host`` names a
    network namespace to run in.
    """
    command = [] if host is None else ["ip", "netns", "exec", host]
    command += [sys.executable, "-c", "import sys; from udr.cli import main; sys.exit(main())", "serve", *arguments]
    command += ["--port", "0", *(() if engine is None else ("--device", "cpu", "--engine", engine))]
    paths = os.pathsep.join(path for path in sys.path if path)
    fixed = {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    variables = {**os.environ, **fixed, **environment}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)
    # A service that hangs must not hang the tests; on a busy machine, a compaction takes minutes.
    timer = threading.Timer(240, process.kill)
    timer.start()
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("udr: loading ")
        # On a busy machine, more lines say how long that takes.
        while line.startswith("udr: loading "):
            line = process.stderr.readline()
        match = re.fullmatch(
            r"udr: serving \d+ (?:task|shard)s?, \d+ demonstrations at "
            r"(https?://[\d.]+:\d+)(, with \d (?:workers|replicas?))?\n",
            line,
        )
        assert match, line + process.stderr.read()
        yield process, match[1]
    finally:
        timer.cancel()
        process.kill()
        process.communicate()
