"""All that ``udr doctor`` checks."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from udr.cli.doctor.engines import check_faiss, check_onnxruntime, check_torch
from udr.cli.doctor.findings import Finding
from udr.cli.doctor.machine import check_disk, check_memory, check_processors, check_proxies
from udr.cli.doctor.models import check_cache, check_models
from udr.cli.doctor.packages import check_python, check_udr, check_versions

Check: TypeAlias = Callable[[], Iterator[Finding]]
"""A check, which yields what it found."""

CHECKS: tuple[Check, ...] = (
    check_python,
    check_udr,
    check_versions,
    check_processors,
    check_memory,
    check_disk,
    check_proxies,
    check_cache,
    check_models,
)
"""The immediate checks; that of the port comes with them."""

ENGINES: tuple[Check, ...] = (check_onnxruntime, check_faiss, check_torch)
"""The checks that import a library, which takes seconds."""
