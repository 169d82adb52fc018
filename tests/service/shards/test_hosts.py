"""Shards on four hosts, each a network namespace: one is cut off under load, and comes back."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.service.running import serving
from tests.tiny_models import save_encoder
from udr.retrieval import Retriever
from udr_index.build import BuildConfig, build
from udr_index.versions import PLACEMENTS, build_shards, place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NUMBER, SECONDS = 3, 2.0
"""Shards, and the time of each request."""

QUERIES = [
    f"a {adjective} day of {season}" for adjective in ("dull", "bright", "long") for season in ("may", "june", "snow")
]

LOAD = """
import json, sys, threading, time
import httpx2
address, seconds, queries = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
begun, asked = time.time(), []
def ask(number):
    with httpx2.Client(base_url=address, timeout=30, headers={"X-Udr-Timeout": "2"}) as client:
        while time.time() < begun + seconds:
            query, started = queries[len(asked) % len(queries)], time.time()
            answer = client.post("/v1/retrieve", json={"task": "notes", "input": query, "k": 5})
            body = answer.json()
            ids = [each["id"] for each in body.get("demonstrations", ())]
            asked.append([started, time.time(), answer.status_code, query, ids, body.get("missing_shards", [])])
threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
[each.start() for each in threads]
[each.join() for each in threads]
print(json.dumps(asked))
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Four namespaces with the addresses 10.0.0.1 to 10.0.0.4, joined by a bridge in the first."""
    names = [f"udr-{os.getpid()}-{number}" for number in range(1, NUMBER + 2)]
    with ExitStack() as stack:
        for name in names:
            try:
                ip("netns", "add", name)
            except (subprocess.CalledProcessError, FileNotFoundError):
                pytest.skip("network namespaces need root and iproute2")
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        first = names[0]
        ip("-n", first, "link", "add", "bridge", "type", "bridge")
        ip("-n", first, "addr", "add", "10.0.0.1/24", "dev", "bridge")
        ip("-n", first, "link", "set", "bridge", "up")
        for number, name in enumerate(names[1:], start=2):
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{number}", "netns", first)
            ip("-n", name, "addr", "add", f"10.0.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", first, "link", "set", f"port{number}", "master", "bridge", "up")
        yield names


def test_a_host_that_is_cut_off_for_ten_seconds_costs_its_rows_and_no_wrong_answer(
    hosts: list[str], collection: Path, tmp_path: Path
) -> None:
    model = str(save_encoder(tmp_path / "encoder"))
    build(BuildConfig(tasks=collection, out=tmp_path / "whole", model=model, bm25=False, label_head=False))
    config = BuildConfig(tasks=collection, out=tmp_path / "shards", model=model, bm25=False)
    folders = [each.path.parent.parent for each in build_shards(config, NUMBER)]
    with ExitStack() as stack:
        placed = {}
        for number, (name, folder) in enumerate(zip(hosts[1:], folders, strict=True), start=2):
            options = ("--host", f"10.0.0.{number}", "--insecure-no-keys")
            placed[folder] = [stack.enter_context(serving(str(folder), *options, host=name))[1]]
        place(tmp_path / PLACEMENTS, placed)
        router = serving(str(tmp_path / PLACEMENTS), engine=None, host=hosts[0])
        _, address = stack.enter_context(router)
        asked, cut = load(hosts[0], address)
    begun, healed = cut
    whole, without = expected(tmp_path / "whole", folders[1])
    for _, _, status, query, ids, missing in asked:
        assert status in (200, 503)
        if status == 200:
            assert missing in ([], [folders[1].name])
            assert ids == (without if missing else whole)[query]
    # No answer is late, but for what a busy machine adds.
    assert max(ended - started for started, ended, *_ in asked) < SECONDS + 1
    told = [
        bool(missing) or status != 200
        for started, _, status, _, _, missing in asked
        if begun + 1 < started < healed - 1
    ]
    assert len(told) > 20 and all(told)
    after = [(status, missing) for started, _, status, _, _, missing in asked if started > healed + 5]
    assert len(after) > 20 and all(each == (200, []) for each in after)


def load(host: str, address: str) -> tuple[list[Any], tuple[float, float]]:
    """Ask for 25 seconds, and cut the second shard off after 5, for 10; return the answers, and when that was."""
    command = ["ip", "netns", "exec", host, sys.executable, "-c", LOAD, address, "25", json.dumps(QUERIES)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(5)
    begun = time.time()
    # The packets of both sides are lost, and nobody is told.
    ip("-n", host, "link", "set", "port3", "down")
    time.sleep(10)
    ip("-n", host, "link", "set", "port3", "up")
    healed = time.time()
    out, _ = process.communicate(timeout=60)
    return json.loads(out), (begun, healed)


def expected(whole: Path, shard: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The nearest five ids of each query among all rows, and among those that are not in a shard."""
    with Retriever.open(whole) as all_rows, Retriever.open(shard) as some:
        lost = {row.id for row in some.demonstrations("notes", limit=1000).rows}
        nearest = {
            query: [each.id for each in all_rows.retrieve("notes", query, all_rows.sizes["notes"])] for query in QUERIES
        }
    left = {query: [id for id in ids if id not in lost][:5] for query, ids in nearest.items()}
    return {query: ids[:5] for query, ids in nearest.items()}, left
