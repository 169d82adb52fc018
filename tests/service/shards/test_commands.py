"""Shards by the commands, and by the Python of the documentation."""

import asyncio
import json
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.documentation.pages import ROOT, blocks
from tests.fakes import NOTES, HashEncoder, write_task
from tests.service.conftest import Words
from tests.service.running import running, serving
from tests.tiny_models import save_encoder
from udr.cli import main
from udr.client.shards import read_placements
from udr.retrieval import Retriever
from udr.types import Json
from udr_index.build import BuildConfig, build
from udr_index.versions import PLACEMENTS, place
from udr_service import Settings, create_app
from udr_service.auth import Scope, new_key


def test_commands_build_and_place_shards(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(save_encoder(tmp_path / "encoder"))
    build_two = ["index", "build", str(collection), "--out", str(tmp_path), "--model", model, "--shards", "2"]
    build_two += ["--no-export", "--no-bm25"]
    assert main([*build_two, "--shard", "1"]) == 0
    assert not (tmp_path / PLACEMENTS).exists()
    assert main([*build_two, "--json"]) == 0
    alone, *both = capsys.readouterr().out.splitlines()
    versions = [json.loads(line)["version"] for line in both]
    assert f"shard-1-of-2: version {versions[0]}" in alone
    file = tmp_path / "placements"
    placed = [f"{tmp_path}/shard-{n}-of-2=http://127.0.0.1:{n},http://127.0.0.1:1{n}" for n in (1, 2)]
    assert main(["index", "place", str(file), *placed]) == 0
    placements = read_placements(file)
    assert [shard.version for shard in placements.shards] == versions
    assert placements.shards[1].urls == ("http://127.0.0.1:2", "http://127.0.0.1:12")
    shown = f"version {placements.version}, 62 demonstrations in 2 shards at 4 services\n"
    assert capsys.readouterr().out.endswith(shown)
    with serving(str(file), engine=None) as (process, address):
        answer = httpx2.get(f"{address}/readyz")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:udr:problem:not-ready")
        process.terminate()
        assert process.wait(20) == 0


def test_service_of_shards_reads_its_keys_again_and_lingers(shards: Path, tmp_path: Path) -> None:
    file, keys = tmp_path / "placements", tmp_path / "keys.toml"
    place(file, {shards / "shard-1-of-3": ["http://127.0.0.1:9"]})
    (key, entry), (_, other) = (new_key(name, Scope.READ) for name in ("one", "two"))
    keys.write_text(entry.to_toml())
    options = [str(file), "--keys", str(keys), "--linger-seconds", "1"]
    with serving(*options, engine=None) as (process, address):

        def status(path: str = "/v1/tasks") -> int:
            return httpx2.get(f"{address}{path}", headers={"Authorization": f"Bearer {key}"}).status_code

        def reloads(text: str) -> str:
            keys.write_text(text)
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            # The line of the audit log comes first.
            return process.stderr.readline() + process.stderr.readline()

        assert status() == 200
        assert "reload refused" in reloads("wrong")
        assert status() == 200
        assert "reloaded" in reloads(other.to_toml())
        assert status() == 401
        process.terminate()
        begun = time.monotonic()
        time.sleep(0.3)
        assert status("/readyz") == 503
        assert process.wait(20) == 0
        assert time.monotonic() - begun > 1.0


def test_python_in_the_documentation_asks_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Mapping[str, Json]] = [
        {"id": f"{n}", "input": {"text": f"a dull day {n}"}, "target": "sad"} for n in range(9)
    ]
    write_task(tmp_path / "tasks", {**NOTES, "name": "tickets"}, train=rows)
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index", bm25=False), HashEncoder())
    monkeypatch.chdir(tmp_path)
    ((_, code),) = blocks((ROOT / "docs" / "scaling.md").read_text("utf-8"), "python")
    names: dict[str, Any] = {}
    exec(code, names)
    with (
        Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever,
        running(create_app(retriever, Settings(), Words())) as url,
    ):
        place(tmp_path / PLACEMENTS, {tmp_path / "index": [url]})
        assert asyncio.run(names["nearest"]("a dull day 7"))[:1] == [
            retriever.retrieve("tickets", "a dull day 7")[0].id
        ]


WRONG: Sequence[tuple[Sequence[str], str]] = [
    (["index", "build", "TASKS", "--out", "OUT", "--shard", "1"], "--shard 1 needs --shards, the number of shards"),
    (["index", "place", "FILE", "DIR"], "name each shard and its services as DIR=URL or DIR=URL,URL; found 'DIR'"),
    (["serve", "FILE", "--device", "cpu"], "names the services of shards, which --device is not for; omit --device"),
    (["serve", "FILE", "--watch-seconds", "1"], "which --watch-seconds is not for; omit --watch-seconds"),
    (["serve", "FILE", "--replicas", "2"], "which --replicas is not for; omit --replicas"),
    (["serve", "FILE"], "is no manifest of placements"),
]


@pytest.mark.parametrize(("command", "problem"), WRONG, ids=[problem for _, problem in WRONG])
def test_commands_refuse_what_does_not_fit(
    command: Sequence[str], problem: str, tmp_path: Path, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("{}")
    paths = {"FILE": tmp_path / "file", "TASKS": collection, "OUT": tmp_path / "out"}
    assert main([str(paths.get(word, word)) for word in command]) != 0
    assert problem in capsys.readouterr().err


def test_what_the_environment_asks_of_an_index_is_named_and_without_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image or a unit sets it for whatever it serves."""
    (tmp_path / "file").write_text("{}")
    given = {"MIRROR": "s3://bucket/index", "WATCH_SECONDS": "30", "USAGE": "off", "RUNNER": "ray", "WORKERS": "1"}
    for name, value in given.items():
        monkeypatch.setenv(f"UDR_{name}", value)
    assert main(["serve", str(tmp_path / "file")]) != 0
    notice, problem, *_ = capsys.readouterr().err.splitlines()
    # UDR_WORKERS has the default.
    variables = "UDR_WATCH_SECONDS, UDR_MIRROR, UDR_USAGE, UDR_RUNNER"
    assert notice == f"udr: without effect, since they need an index directory: {variables}"
    assert "is no manifest of placements" in problem
