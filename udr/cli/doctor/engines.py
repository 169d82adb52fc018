"""Checks of the compiled libraries: torch, FAISS and ONNX Runtime, each imported in a process of its own.

A library that was built for another processor, or that clashes with another, ends the process that imports it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from udr.cli.doctor.findings import Finding, note, ok, problem
from udr.installation import install, install_extra
from udr.models import accelerators

_SECONDS = 120
"""What an import may take: a cold disk reads torch for a minute."""

_FAISS = "remove all of faiss-cpu, faiss-gpu and faiss-gpu-cuvs, then: {}"
_DRIVER = "compare the driver's version (nvidia-smi), and check CUDA_VISIBLE_DEVICES"


class _Broken(Exception):
    """A library is installed, but cannot be used."""


def check_torch() -> Iterator[Finding]:
    """Look at torch, and at the GPUs that it finds."""
    if find_spec("torch") is None:
        why = "not installed; serving an index that carries its encoder works without it"
        yield note("torch", why, f"to build indexes or train: {install_extra('index')}")
        return
    try:
        build = _ask("from udr.models import torch_build as build")
    except _Broken as error:
        yield problem("torch", str(error), f"install it again: {install('--force-reinstall', '--no-deps', 'torch')}")
        return
    fast = "bfloat16 is fast here" if build["bf16"] else "no bfloat16 instructions; use --dtype float32"
    # Of the processor, which computes only where there is no GPU.
    yield ok("torch", build["version"] if build["devices"] else f"{build['version']}, {fast}")
    files = [str(path) for path in accelerators()]
    if build["devices"]:
        yield ok("CUDA", f"{build['cuda']}, {', '.join(build['devices'])}")
    elif not files:
        yield ok("CUDA", "no GPU in this machine; everything runs on the CPU")
    elif build["cuda"] is None:
        yield note(
            "CUDA",
            f"this torch is built for CPUs, but there is {files[0]}",
            "see https://pytorch.org for a build for it",
        )
    else:
        why = f"torch is built for CUDA {build['cuda']} and finds no GPU, but there is {files[0]}"
        yield problem("CUDA", why, _DRIVER)


def check_faiss() -> Iterator[Finding]:
    """Look at FAISS, which searches."""
    if find_spec("faiss") is None:
        yield problem("FAISS", "not installed; no index can be searched here", install_extra("cpu"))
        return
    try:
        build = _ask("from udr.search import faiss_build as build")
    except _Broken as error:
        yield problem("FAISS", str(error), _FAISS.format(install_extra("cpu")))
        return
    gpus = "without GPU support" if build["gpus"] is None else f"{build['gpus']} GPUs"
    yield ok("FAISS", f"{build['version']}, {gpus}, {' '.join(build['options'])}")
    nvidia = next((str(path) for path in accelerators() if path.name.startswith("nvidia")), None)
    if build["gpus"] == 0 and nvidia is not None:
        yield problem("FAISS", f"this build for GPUs finds none, but there is {nvidia}", _DRIVER)
    if build["gpus"] is None and nvidia is not None:
        remedy = _FAISS.format(install_extra("gpu"))
        yield note("FAISS", "this build does not search on the GPU", f"for pools of millions of rows, {remedy}")


def check_onnxruntime() -> Iterator[Finding]:
    """Look at ONNX Runtime, which encodes the queries of a service."""
    if find_spec("onnxruntime") is None:
        why = "not installed; queries are encoded by torch, more slowly"
        yield note("onnxruntime", why, install_extra("onnx"))
        return
    try:
        build = _ask("from udr.models.onnx import onnxruntime_build as build")
    except _Broken as error:
        yield problem("onnxruntime", str(error), f"install it again: {install('--force-reinstall', 'onnxruntime')}")
        return
    yield ok("onnxruntime", f"{build['version']}, {', '.join(build['providers'])}")


def _ask(statement: str) -> dict[str, Any]:
    """Return what the ``build`` that a statement imports returns, in a process of its own."""
    code = f"import json; {statement}; print(json.dumps(build()))"
    environment_path = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; "
    try:
        result = subprocess.run(
            [sys.executable, "-c", environment_path + code],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _Broken(f"cannot be imported within {_SECONDS} s") from error
    if result.returncode < 0:
        raise _Broken(f"ends the process with signal {-result.returncode} when it is imported")
    if result.returncode:
        raise _Broken(f"cannot be imported: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer
