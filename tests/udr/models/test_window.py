"""Texts that exceed the encoder's window are counted, and a task can choose what the encoder reads first."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes import QUESTIONS, write_task
from tests.tiny_models import save_encoder
from udr.data import demonstration_text, encoder_demonstration, parse_task
from udr.errors import DataError
from udr.models import LongTexts, SentenceEncoder
from udr.store import open_version
from udr.types import Json, Row
from udr_index.build import BuildConfig, build

CONTEXT = "the old castle stands by the lake " * 60
TASK = {**QUESTIONS, "input": "Context: {context}\nQuestion: {question}"}
ROWS: list[Mapping[str, Json]] = [
    {"id": str(n), "input": {"context": CONTEXT, "question": f"{word} is it?"}, "target": "place"}
    for n, word in enumerate(("Where", "Whose", "What", "How old"))
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    return SentenceEncoder.load(str(save_encoder(tmp_path_factory.mktemp("window") / "model")), device="cpu")


def test_long_texts_are_counted_as_the_encoder_reads_them(encoder: SentenceEncoder) -> None:
    assert encoder.window is not None
    limit = encoder.window.tokens
    texts = ["a", CONTEXT]
    lengths = [len(encoder.model.tokenizer(text, truncation=False)["input_ids"]) for text in texts]
    assert encoder.window.lengths(texts) == lengths and lengths[1] > limit
    long = LongTexts(encoder.window)
    assert long.add(texts) == [False, True] and long.add([]) == []
    share = (lengths[1] - limit) / lengths[1]
    assert long.notice() == (
        f"1 of 2 rows is longer than the encoder's {limit} tokens, the longest {lengths[1]:,}; {share:.0%} of their "
        "text is not read; shorten them, or put the fields that differ first with encoder_input in task.toml"
    )
    assert LongTexts(encoder.window).notice() is LongTexts(None).notice() is None


def test_a_build_tells_of_long_rows_and_encoder_input_separates_them(
    encoder: SentenceEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def distinct_vectors(name: str, **keys: str) -> int:
        write_task(tmp_path / name, {**TASK, **keys}, train=ROWS)
        out = tmp_path / f"{name}-index"
        build(BuildConfig(tasks=tmp_path / name, out=out, dtype="float32"), encoder)
        return len({vector.tobytes() for vector in open_version(out).vectors("questions")})

    assert distinct_vectors("cut") == 1
    assert "4 of 4 rows are longer than the encoder's" in caplog.text
    assert distinct_vectors("first", encoder_input="Question: {question}\nContext: {context}") == 4


def test_encoder_input_changes_only_what_the_encoder_reads() -> None:
    plain = parse_task(TASK)
    task = parse_task({**TASK, "encoder_input": "Q: {question}\nC: {context}"})
    row = Row(id="1", input={"context": "c", "question": "q"}, target="place")
    assert demonstration_text(task, row) == demonstration_text(plain, row)
    assert encoder_demonstration(task, row) == f"{task.instruction}\nQ: q\nC: c\nAnswer type: place"
    assert parse_task(task.to_json()) == task and "encoder_input" not in plain.to_json()
    with pytest.raises(DataError, match="'encoder_input': must contain the fields of input, context, question; found"):
        parse_task({**TASK, "encoder_input": "{question}"})
