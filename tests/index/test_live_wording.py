"""Rows that were written before their task was worded as it is: a pool answers as a new index of its rows would."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import NOTES, HashEncoder, write_task
from tests.tiny_models import save_encoder
from udr import Retriever, Row
from udr.errors import ConfigError
from udr.models import Encoder
from udr.store import LIVE
from udr.store.live import LOG, WriteLog
from udr_index.build import BuildConfig, build
from udr_index.versions.live import compact, export_rows

NEW = [Row(id=id, input={"text": f"the {id} story"}, target="sad") for id in ("river", "mill", "tower")]
CHANGES: dict[str, dict[str, Any]] = {
    "instruction": {"instruction": "Zzz, qqq: how does xxx feel?"},
    "input": {"input": "Yyy, vvv: {text}"},
    "encoder_input": {"encoder_input": "{text} www uuu"},
    "output": {"output": "Ttt sss: {target}"},
    "verbalizer": {"verbalizer": {"sad": "in a bad mood"}},
}


def write(tasks: Path, keys: Any, rows: list[Row]) -> None:
    folder = write_task(tasks, {name: value for name, value in keys.items() if name != "verbalizer"})
    with (folder / "task.toml").open("a") as file:
        file.writelines(
            f"[verbalizer]\n{label} = {json.dumps(text)}\n" for label, text in keys.get("verbalizer", {}).items()
        )
    lines = [{"id": "old", "input": {"text": "a fine day"}, "target": "glad"}, *(row.to_json() for row in rows)]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def found(index: Path, encoder: Encoder) -> list[tuple[str, float]]:
    with Retriever.open(index, encoder=encoder) as retriever:
        items = retriever.retrieve("notes", "the river story", 4, keep_copies=True)
        return [(item.id, item.similarity) for item in items]


@pytest.mark.parametrize("change", CHANGES)
def test_rows_are_encoded_as_the_task_is_worded_now(change: str, tmp_path: Path) -> None:
    tasks, index, fresh = (tmp_path / name for name in ("tasks", "index", "fresh"))
    write(tasks, NOTES, [])
    build(BuildConfig(tasks=tasks, out=index), HashEncoder())
    with Retriever.open(index, encoder=HashEncoder()) as writer:
        writer.put("notes", NEW)
        changed = {**NOTES, **CHANGES[change]}
        write(tasks, changed, [])
        build(BuildConfig(tasks=tasks, out=index), HashEncoder())
        # One that still writes for the version before.
        writer.put("notes", NEW[0])
    write(tasks, changed, NEW)
    build(BuildConfig(tasks=tasks, out=fresh), HashEncoder())
    expected = found(fresh, HashEncoder())
    assert found(index, HashEncoder()) == expected
    with pytest.raises(ConfigError, match=r"3 texts of rows have no vector, since .* another wording of their task"):
        export_rows(index, tmp_path / "rows.jsonl", vectors=True)
    compact(index, HashEncoder())
    assert found(index, HashEncoder()) == expected


def test_rows_that_an_older_udr_wrote_are_encoded_again_all_at_once(tmp_path: Path) -> None:
    tasks, index = tmp_path / "tasks", tmp_path / "index"
    write(tasks, NOTES, [])
    build(BuildConfig(tasks=tasks, out=index), HashEncoder())
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        for row in NEW:
            retriever.put("notes", row)
    expected, log = found(index, HashEncoder()), WriteLog(index / LIVE)
    records = []
    for _, content in log.read()[1]:
        line, _, vectors = content.partition(b"\n")
        keys = json.loads(line)
        # An older udr does not tell the wording, so the vector may be of another one.
        del keys["wording"]
        records.append(json.dumps(keys).encode() + b"\n" + bytes(len(vectors)))
    log.close()
    (index / LIVE / LOG).unlink()
    with log.alone():
        log.append(records)
    log.close()
    encoder, calls = HashEncoder(), list[int]()
    encode = encoder.encode_demonstrations
    encoder.encode_demonstrations = lambda texts: calls.append(len(texts)) or encode(texts)  # type: ignore[method-assign, func-returns-value]
    assert found(index, encoder) == expected
    assert calls == [3]


def test_token_counts_of_another_wording_are_not_taken_over(tmp_path: Path) -> None:
    save_encoder(tmp_path / "model")
    tasks, config = (
        tmp_path / "tasks",
        BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index", model=str(tmp_path / "model"), device="cpu"),
    )

    def tokens() -> list[bool]:
        with Retriever.open(tmp_path / "index", device="cpu") as retriever:
            items = {item.id: item for item in retriever.retrieve("notes", "the river story", 4, keep_copies=True)}
            return [items[id].tokens is not None for id in ("old", "mill")]

    write(tasks, NOTES, [])
    build(config)
    with Retriever.open(tmp_path / "index", device="cpu") as retriever:
        retriever.put("notes", NEW)
    assert tokens() == [True, True]
    write(tasks, {**NOTES, "output": "The mood of this one, all things considered, is: {target}"}, [])
    build(config)
    assert tokens() == [True, False]
