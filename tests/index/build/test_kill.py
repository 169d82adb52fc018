"""Builds and publications that are killed at any moment leave an intact index that answers."""

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.index.builds import build_index, start_python
from tests.waiting import until
from udr.retrieval import Retriever
from udr.store import read_current, verify

# Everything is imported before the clock starts, so that work is killed, not the start of Python. Every batch takes a
# moment, like a real encoder's.
CHILD = """
import sys, time
from pathlib import Path
from tests.fakes import HashEncoder
from tests.index.builds import build_index
from udr_index.versions import publish

class SlowEncoder(HashEncoder):
    def encode_demonstrations(self, texts):
        time.sleep(0.01)
        return super().encode_demonstrations(texts)

tasks, out, old = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
built = build_index(tasks, out, SlowEncoder(), pool=18, kind="IVF2,Flat", bm25=True, batch_size=4, shard_rows=8)
# Publications are killed as well.
for version in (old, built.version) * 10:
    publish(out, version)
"""


def start(collection: Path, out: Path, old: str) -> subprocess.Popen[bytes]:
    process = start_python(CHILD, collection, out, old)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_kills_leave_the_old_version_or_the_new(collection: Path, tmp_path: Path, kills: int) -> None:
    out, other, random_number = tmp_path / "out", tmp_path / "other", random.Random(0).random
    old = build_index(collection, out, pool=5).version
    build_index(collection, other, pool=5)
    started = time.monotonic()
    with start(collection, other, old) as process:
        assert process.wait() == 0
    seconds = time.monotonic() - started
    new, seen = read_current(other), set[str]()
    for number in range(kills):
        with start(collection, out, old) as process:
            # The first is killed before the new version is there, the last one after that, and the others at any time.
            if number == kills - 1:
                until(lambda: read_current(out) == new)
            elif number > 0:
                time.sleep(random_number() * seconds)
            process.kill()

        current = read_current(out)
        assert current in (old, new)
        assert verify(out) == []
        with Retriever.open(out, encoder=HashEncoder()) as retriever:
            assert len(retriever.retrieve(scope="all", input="a fine day", k=5)) == 5
        seen.add(current)
        # Without the new version, the next child has to build it, not only to publish it.
        if current == new and random_number() < 0.5:
            build_index(collection, out, pool=5)
            shutil.rmtree(out / "versions" / new)
    assert old in seen
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {"CURRENT", "versions"}
