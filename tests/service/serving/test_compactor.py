"""Compaction in the background: a service makes a new version of its index once enough was written on top of it."""

import asyncio
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HashEncoder
from tests.service.conftest import Words, on_event_loop
from tests.service.running import serving
from tests.waiting import until
from udr import Client, Retriever, Row
from udr.store import read_current
from udr_index.versions.live import export_rows
from udr_service import Settings
from udr_service.errors import ReloadError
from udr_service.serving import ActiveVersion, Compactor, Current, IndexSource


def row(id: str, text: str = "a written day") -> Row:
    return Row(id=id, input={"text": text}, target="glad")


def without_torch(folder: Path) -> str:
    """Hide torch, which a service can lack; return the path of what Python imports."""
    folder.mkdir()
    (folder / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n", "utf-8")
    return os.pathsep.join([str(folder), *filter(None, sys.path)])


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_service_compacts_while_it_answers_and_takes_writes(workers: str, tiny: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(tiny, tmp_path / "index"))
    first, failures, stop = read_current(index), list[object](), threading.Event()
    options = ("--workers", workers, "--compact-rows", "5", "--log-level", "error")
    variables = {"OPENBLAS_NUM_THREADS": "1"}
    if workers == "1":
        variables["PYTHONPATH"] = without_torch(tmp_path / "packages")
    with serving(str(index), *options, **variables) as (_, address):
        client, put = Client(address, timeout=60), list[str]()

        def ask() -> None:
            with Client(address, timeout=60) as own:
                while not stop.is_set():
                    known = put[:]
                    found = own.demonstrations("notes", limit=1000)
                    failures.extend(set(known) - {item.id for item in found.rows})
                    nearest = own.retrieve("notes", {"text": "a written day"}, 1, keep_copies=True)
                    failures.extend(item.id for item in nearest if not item.id.startswith("w"))
                    # The compaction has the lowest priority.
                    time.sleep(0.2)

        for number in range(4):
            client.put("notes", row(f"w{number}"))
            put.append(f"w{number}")
        readers = [threading.Thread(target=ask) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            number = 4
            while client.info()["index_version"] == first:
                if number < 40:
                    client.put("notes", row(f"w{number}"))
                    put.append(f"w{number}")
                    number += 1
                time.sleep(0.05)
                assert not failures
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        assert not failures
        assert read_current(index) != first
        client.delete("notes", "w0")
        assert [item.id for item in client.demonstrations("notes", filter='$id in ["w0", "w1"]').rows] == ["w1"]
        client.close()
    export_rows(index, tmp_path / "rows.jsonl", "notes")
    ids = {json.loads(line)["id"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()}
    assert set(put) - ids == {"w0"}


class Reloads:
    """Counts reloads; the first ones may fail."""

    def __init__(self, failing: int = 0) -> None:
        self.by, self.failing = list[str](), failing

    async def reload(self, by: str) -> None:
        self.by.append(by)
        if len(self.by) <= self.failing:
            raise ReloadError("the keys are damaged")


class Place:
    """An index with six writes on top, served by a compactor whose command is a script of the test's."""

    def __init__(self, index: Path, code: str, failing: int = 0) -> None:
        self.index, self.runs, self.reloads = index, index.parent / "runs", Reloads(failing)
        self.runs.touch()
        self.current = Current()
        self.retriever = Retriever.open(index, encoder=HashEncoder())
        self.version = self.retriever.index_version
        for number in range(6):
            self.retriever.put("notes", row(f"w{number}"))
        self.current.switch(ActiveVersion(self.retriever, Words(), lent=True))
        source = IndexSource(index, Settings(compact_rows=5))
        begin = f"import json, os, sys, time; open({str(self.runs)!r}, 'a').write('x'); version = {self.version!r}\n"
        reloader: Any = self.reloads
        self.failures = list[None]()
        self.compactor = Compactor(
            source,
            self.current,
            reloader,
            on_failure=lambda: self.failures.append(None),
            look_seconds=0.01,
            pause_seconds=0.2,
            command=(sys.executable, "-S", "-c", begin + code),
        )

    @property
    def num_runs(self) -> int:
        return len(self.runs.read_text())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.compactor.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.retriever.close()

    async def ran(self, times: int) -> None:
        while self.num_runs < times:
            await asyncio.sleep(0.01)


FAILS = "sys.exit('udr: reading...\\nudr: error: the disk is full')"


@on_event_loop
async def _a_failure(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(copy, FAILS)
    async with place.running():
        started = asyncio.get_running_loop().time()
        await place.ran(3)
        # The pauses are 0.2 and 0.4 s.
        assert asyncio.get_running_loop().time() - started > 0.6
    assert caplog.messages == ["the index was not compacted, which will be tried again: the disk is full"]
    assert place.reloads.by == [] and len(place.failures) >= 2


def test_a_failure_is_told_once_and_tried_again_in_longer_pauses(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    _a_failure(copy, caplog)


@on_event_loop
async def _in_use(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(copy, "sys.exit('udr: error: DIR: is in use by process 7 on host (udr index build); wait')")
    async with place.running():
        started = asyncio.get_running_loop().time()
        await place.ran(4)
        # The pauses are 0.2 s, and do not grow.
        assert 0.6 < asyncio.get_running_loop().time() - started < 20
    assert caplog.messages == [] == place.reloads.by


def test_another_command_at_work_is_waited_for(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    _in_use(copy, caplog)


@on_event_loop
async def test_writes_that_change_nothing_are_not_compacted_again_and_again(copy: Path) -> None:
    place = Place(copy, "print(json.dumps({'version': version, 'previous': version, 'position': 6}))")
    async with place.running():
        await place.ran(1)
        await asyncio.sleep(0.3)
        assert place.num_runs == 1
        for number in range(5):
            await asyncio.to_thread(place.retriever.put, "notes", row(f"v{number}"))
        await place.ran(2)
    assert place.reloads.by == []


@on_event_loop
async def test_a_version_that_was_published_meanwhile_is_left_to_who_did_so(copy: Path) -> None:
    place = Place(copy, "print(json.dumps({'version': 'b' * 16, 'previous': 'a' * 16, 'position': 6}))")
    (copy / "versions" / ("a" * 16)).mkdir()
    async with place.running():
        await place.ran(1)
        (copy / "CURRENT").write_text("a" * 16 + "\n")
        await asyncio.sleep(0.2)
        runs = place.num_runs
        await asyncio.sleep(0.3)
        assert place.num_runs == runs, "the published version is another than the one that answers"
    assert place.reloads.by == []


@on_event_loop
async def test_a_reload_that_fails_is_tried_again_without_another_compaction(copy: Path) -> None:
    (copy / "versions" / ("b" * 16)).mkdir()
    code = f"open({str(copy / 'CURRENT')!r}, 'w').write('b' * 16 + chr(10))\n"
    code += "print(json.dumps({'version': 'b' * 16, 'previous': version, 'position': 6}))"
    place = Place(copy, code, failing=2)
    async with place.running():
        while len(place.reloads.by) < 3:
            await asyncio.sleep(0.01)
    assert (place.num_runs, set(place.reloads.by)) == (1, {"compaction"})


@on_event_loop
async def test_it_runs_at_low_priority_and_ends_with_the_service(copy: Path) -> None:
    file = copy.parent / "pid"
    code = f"""
while os.getpriority(os.PRIO_PROCESS, 0) != 19:
    time.sleep(0.01)
open({str(file)!r}, 'w').write(f'{{os.getpid()}} ')
time.sleep(60)
"""
    place = Place(copy, code)
    async with place.running():
        while not (file.exists() and file.read_text().endswith(" ")):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert place.num_runs == 1
    process = int(file.read_text())

    def ended() -> bool:
        os.kill(process, 0)
        return False

    with pytest.raises(ProcessLookupError):
        until(ended)


@on_event_loop
async def test_without_the_setting_nothing_is_compacted(copy: Path) -> None:
    place = Place(copy, FAILS)
    place.retriever.close()
    reloader: Any = place.reloads
    await Compactor(IndexSource(copy, Settings()), place.current, reloader).run()
    assert Settings().compact_rows == place.num_runs == 0
