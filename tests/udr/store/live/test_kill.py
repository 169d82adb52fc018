"""Writers, compactions and publications that are killed at any moment lose nothing that was acknowledged."""

import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import HashEncoder
from tests.index.builds import start_python
from tests.live_model import SIZES, build_pools, random_pools
from udr import Retriever, Row
from udr.errors import VerificationError
from udr.store import LIVE, open_version, publish, read_current, verify
from udr.store.live import LOG, WriteLog
from udr_index.versions.live import compact

WRITERS = 16

# Each writer puts rows one after the other, and prints the id of each before it is sent and once it is acknowledged.
WRITE = """
import sys, threading
from pathlib import Path
from tests.fakes import HashEncoder
from udr import Retriever, Row

retriever, first = Retriever.open(Path(sys.argv[1]), encoder=HashEncoder(), verify=False), int(sys.argv[2])
lock = threading.Lock()

def say(line):
    with lock:
        sys.stdout.write(line)
        sys.stdout.flush()

def write(number):
    for n in range(1000):
        id = f"w{first:02}-{number:02}-{n:03}"
        say(f"sent {id}\\n")
        retriever.put("notes", Row(id=id, input={"text": f"the river {id} and the lake"}, target="glad"))
        say(f"done {id}\\n")

say("ready\\n")
for number in range(16):
    threading.Thread(target=write, args=(number,)).start()
"""

COMPACT = """
import sys
from pathlib import Path
from tests.fakes import HashEncoder
from udr.store import publish
from udr_index.versions.live import compact

out, old = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
for _ in range(10):
    publish(out, old)
    compact(out, HashEncoder())
"""


def written(id: str) -> Row:
    return Row(id=id, input={"text": f"the river {id} and the lake"}, target="glad")


def killed_writer(out: Path, number: int, acknowledged: int, seconds: float) -> tuple[set[str], set[str]]:
    """Run writers, and kill them a while after some writes were acknowledged; return the ids sent and acknowledged."""
    with start_python(WRITE, out, number) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        text = b""
        while text.count(b"done ") < acknowledged:
            text += process.stdout.readline()
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        lines = (text + process.stdout.read()).decode().splitlines()
        timer.join()
    whole = [line.split() for line in lines if len(line.split()) == 2 and len(line.split()[1]) == 10]
    return {id for word, id in whole if word == "sent"}, {id for word, id in whole if word == "done"}


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_every_acknowledged_write_is_there_and_no_other(kills: int, tmp_path: Path) -> None:
    draw, out = random.Random(0), tmp_path / "index"
    pools = random_pools(draw, SIZES)
    # With the default of label heads, which compaction assumes of a pool too small to tell.
    build_pools(tmp_path / "tasks", out, pools, label_head=None)
    expected = {row.id: row for row in pools["notes"].values()}
    for number in range(kills):
        sent, done = killed_writer(out, number, draw.randint(1, 40), draw.uniform(0, 0.05))
        with Retriever.open(out, encoder=HashEncoder(), verify=False) as retriever:
            # It cuts off what was not written whole.
            retriever.delete("diary", [f"none{number}"])
            found = {row.id: row for row in every(retriever)}
        there = found.keys() - expected.keys()
        # A write that was durable when its writer was killed may be there, one for each; what was not sent may not.
        assert done and done <= there <= sent and len(there - done) <= WRITERS
        expected |= {id: written(id) for id in there}
        assert found == expected
    vectors = (compact(out, HashEncoder()), open_version(out).vectors("notes"))[1]
    pools["notes"] = expected
    fresh = build_pools(tmp_path / "tasks", tmp_path / "fresh", pools, label_head=None)
    assert read_current(out) == fresh
    assert np.array_equal(vectors, open_version(tmp_path / "fresh").vectors("notes"))


def every(retriever: Retriever) -> list[Row]:
    rows, after = list[Row](), None
    while True:
        page = retriever.demonstrations("notes", after=after, limit=1000)
        rows += page.rows
        if (after := page.next) is None:
            return rows


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_compactions_and_publications_that_are_killed_lose_nothing(kills: int, tmp_path: Path) -> None:
    draw, out = random.Random(1), tmp_path / "index"
    pools = random_pools(draw, SIZES)
    old = build_pools(tmp_path / "tasks", out, pools)
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        for n in range(30):
            pools["notes"][f"x{n}"] = written(f"x{n}")
            retriever.put("notes", written(f"x{n}"))
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    started = time.monotonic()
    new = compact(copy, HashEncoder()).version
    seconds = 10 * (time.monotonic() - started)
    for _ in range(kills):
        with start_python(COMPACT, out, old) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0, seconds))
            process.kill()
        assert read_current(out) in (old, new) and verify(out) == []
        with Retriever.open(out, encoder=HashEncoder()) as retriever:
            assert {row.id: row for row in every(retriever)} == pools["notes"]
    publish(out, old)
    assert compact(out, HashEncoder()).version == new


@pytest.mark.parametrize("changes", [20, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_altered_bytes_of_a_log_are_found(changes: int, tmp_path: Path) -> None:
    draw, out = random.Random(2), tmp_path / "index"
    build_pools(tmp_path / "tasks", out, random_pools(draw, SIZES))
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        for n in range(60):
            retriever.put("notes", written(f"x{n}"))
            if n % 3:
                retriever.delete("notes", f"x{n}")
    # One that was rewritten, with records after that.
    compact(out, HashEncoder())
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        retriever.put("notes", written("last"))
    path = out / LIVE / LOG
    whole = path.read_bytes()
    for _ in range(changes):
        altered = bytearray(whole)
        altered[draw.randrange(len(whole))] ^= draw.randrange(1, 256)
        path.write_bytes(altered)
        log = WriteLog(out / LIVE)
        with pytest.raises(VerificationError, match=f"{LOG}: "):
            log.read()
        log.close()
