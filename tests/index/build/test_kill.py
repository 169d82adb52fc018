"""Builds and publications that are killed at any moment leave an index that is whole, and answers."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from udr.retrieval import Retriever
from udr.store import read_current, verify
from udr_index.build import BuildConfig, build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

REPOSITORY = Path(__file__).parents[3]
KILLS = 50

# Everything is imported before the clock starts: what is killed is work, not the start of Python. Every batch takes a
# moment, as a real encoder's does.
CHILD = """
import sys, time
from pathlib import Path
from tests.fakes import HashEncoder
from udr_index.build import build
from udr_index.config import BuildConfig
from udr_index.versions import publish

class SlowEncoder(HashEncoder):
    def encode_demonstrations(self, texts):
        time.sleep(0.01)
        return super().encode_demonstrations(texts)

tasks, out, pool, old = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
print("ready", flush=True)
built = build(
    BuildConfig(tasks=tasks, out=out, pool=pool, kind="IVF2,Flat", bm25=True, batch_size=4, shard_rows=8), SlowEncoder()
)
# Back, and forth again: what publishes is killed as well.
for version in (old, built.version) * 10:
    publish(out, version)
"""


def start(collection: Path, out: Path, pool: int, old: str) -> subprocess.Popen[bytes]:
    paths = [str(REPOSITORY / part) for part in (".", "index", "service", "training")]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(collection), str(out), str(pool), old],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def test_fifty_kills_leave_the_old_version_or_the_new_one(collection: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "out", random.Random(0)
    old = build(BuildConfig(tasks=collection, out=out, pool=5), HashEncoder()).version
    started = time.monotonic()
    whole = start(
        collection,
        tmp_path / "whole",
        18,
        build(BuildConfig(tasks=collection, out=tmp_path / "whole", pool=5), HashEncoder()).version,
    )
    assert whole.wait() == 0 and whole.stdout is not None
    whole.stdout.close()
    seconds = time.monotonic() - started
    new = read_current(tmp_path / "whole")
    seen = set[str]()
    for _ in range(KILLS):
        process = start(collection, out, 18, old)
        time.sleep(chance.random() * seconds)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

        current = read_current(out)
        assert current in (old, new)
        assert verify(out) == []
        with Retriever.open(out, encoder=HashEncoder()) as retriever:
            assert len(retriever.retrieve(scope="all", input="a fine day", k=5)) == 5
        seen.add(current)
        # So that the next one builds, and does not only publish.
        if current == new and chance.random() < 0.5:
            build(BuildConfig(tasks=collection, out=out, pool=5), HashEncoder())
            shutil.rmtree(out / "versions" / new)
    assert seen == {old, new}
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {"CURRENT", "versions"}
