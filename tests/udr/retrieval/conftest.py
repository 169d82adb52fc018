"""Retrievers over small pools that a test writes itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import NOTES, HashEncoder, write_task
from udr.retrieval import Retriever
from udr.types import Json
from udr_index.build import BuildConfig, build

Rows = Sequence[Mapping[str, Json]]
OpenPools = Callable[..., Retriever]


def note(id: str, text: str, target: str = "glad") -> Mapping[str, Json]:
    """A row of the task ``notes``."""
    return {"id": id, "input": {"text": text}, "target": target}


def open_pools(root: Path, pools: Mapping[str, Rows], keys: Mapping[str, Json] = NOTES, **options: Any) -> Retriever:
    """Build an index of tasks of one family with these training rows, and open it."""
    encoder = options.pop("encoder", HashEncoder())
    for name, rows in pools.items():
        write_task(root / "tasks", {**keys, "name": name}, train=rows)
    build(BuildConfig(tasks=root / "tasks", out=root / "index", **options), encoder)
    return Retriever.open(root / "index", encoder=encoder)


@pytest.fixture
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPools]:
    """``open_pools`` in a new folder; the retrievers are closed after the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(
            open_pools(tmp_path_factory.mktemp("pools"), *args, **options)
        )
