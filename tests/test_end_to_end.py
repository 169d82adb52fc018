"""From tasks to prompt with the commands: train, build, verify, serve, retrieve, evaluate."""

import json
import math
from pathlib import Path

import pytest

from tests.fakes import write_task
from tests.service.running import running
from tests.tiny_models import save_encoder, save_lm
from udr import Client, Retriever
from udr.cli import main
from udr.types import Json
from udr_service import create_app

TASK: dict[str, Json] = {
    "name": "fruit_or_tool",
    "family": "things",
    "kind": "classification",
    "instruction": "Say what it is.",
    "input": "Thing: {thing}",
    "output": "Kind: {target}",
    "metric": "accuracy",
    "labels": ["fruit", "tool"],
}
WORDS = {"fruit": "apple pear plum cherry fig".split(), "tool": "saw axe drill rasp awl".split()}


def rows(split: str, part: slice) -> list[dict[str, Json]]:
    return [
        {"id": f"{split}-{word}", "input": {"thing": f"the {word}"}, "target": label}
        for label, words in WORDS.items()
        for word in words[part]
    ]


def wilson(share: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    half = z * math.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2)
    low, high = ((share + z * z / (2 * rows) + side * half) / (1 + z * z / rows) for side in (-1, 1))
    return low, high


def test_train_build_verify_serve_retrieve_prompt_and_evaluate(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(Path("tasks"), TASK, train=rows("train", slice(4)), test=rows("test", slice(4, 5)))
    save_lm(Path("lm"))
    save_encoder(Path("encoder"))
    sizes = "--iterations 1 --epochs 1 --batch-size 4 --candidates 6"
    assert main(f"train tasks --lm lm --model encoder --out run --device cpu {sizes}".split()) == 0
    assert main("index build tasks --model run/model --out index --device cpu".split()) == 0
    assert main(["index", "verify", "index"]) == 0

    with (
        Retriever.open("index", device="cpu") as retriever,
        running(create_app(retriever)) as address,
        Client(address) as client,
    ):
        retrieval = client.retrieve("fruit_or_tool", "the mango", k=3)
        prompt = client.prompt("fruit_or_tool", {"thing": "the mango"}, k=3, budget=200)
    assert [item.rank for item in retrieval] == [1, 2, 3]
    assert prompt.text is not None and prompt.text.endswith("Thing: the mango\nKind:") and prompt.tokens <= 200

    capfd.readouterr()
    assert main(["retrieve", "index", "--task", "fruit_or_tool", "--k", "3", "--json", "the mango"]) == 0
    assert json.loads(capfd.readouterr().out) == retrieval.to_json()

    retrievers = ["random", "bm25", "encoder", "run"]
    evaluate = "evaluate tasks --lm lm --shots 2 --json --device cpu --retrievers"
    assert main([*evaluate.split(), ",".join(retrievers)]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [mean["retriever"] for mean in result["means"]] == retrievers
    (number,) = {task["rows"] for task in result["tasks"]}
    for mean in result["means"]:
        ends = wilson(mean["mean"] / 100, number)
        assert (mean["low"], mean["high"]) == pytest.approx([100 * end for end in ends], abs=0.02)
