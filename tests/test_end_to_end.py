"""From tasks to prompt with the commands that people run: train, build, verify, serve, ask, compare."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_models import save_encoder, save_lm
from udr import Client
from udr.cli import main

WORDS = {
    "fruit": "apple pear plum cherry grape melon fig quince lime peach",
    "tool": "saw axe drill rasp plane file vice clamp chisel awl",
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tasks")
    folder = root / "things" / "fruit_or_tool"
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(
        'name = "fruit_or_tool"\nfamily = "things"\nkind = "classification"\nmetric = "accuracy"\n'
        'instruction = "Say what it is."\ninput = "Thing: {thing}"\noutput = "Kind: {target}"\n'
        'labels = ["fruit", "tool"]\n',
        "utf-8",
    )
    for split, part in (("train", slice(0, 8)), ("test", slice(8, 10))):
        rows = [
            json.dumps({"id": f"{split}-{word}", "input": {"thing": f"the {word}"}, "target": label})
            for label, words in WORDS.items()
            for word in words.split()[part]
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(rows), "utf-8")
    return root


def test_train_build_verify_serve_retrieve_prompt_and_evaluate(
    tasks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lm, encoder = save_lm(tmp_path / "lm"), save_encoder(tmp_path / "encoder")
    run, index = tmp_path / "run", tmp_path / "index"
    train = [
        "train",
        str(tasks),
        "--tasks",
        "fruit_or_tool",
        "--preset",
        "cpu",
        "--lm",
        str(lm),
        "--model",
        str(encoder),
    ]
    assert main([*train, "--out", str(run), "--epochs", "1", "--batch-size", "4"]) == 0
    assert main(["index", "build", str(tasks), "--model", str(run / "model"), "--out", str(index)]) == 0
    assert main(["index", "verify", str(index)]) == 0

    udr = str(Path(sys.executable).with_name("udr"))
    command = [udr, "serve", str(index), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        try:
            assert service.stderr is not None
            address = next(line for line in service.stderr if " at http://" in line).rpartition(" at ")[2].strip()
            with Client(address, timeout=30) as client:
                retrieval = client.retrieve("fruit_or_tool", "the mango", k=3)
                prompt = client.prompt("fruit_or_tool", {"thing": "the mango"}, k=3, budget=200)
        finally:
            service.terminate()
        assert service.wait(timeout=30) == 0
    assert [found.rank for found in retrieval] == [1, 2, 3]
    assert prompt.text is not None and prompt.text.endswith("Thing: the mango\nKind:") and prompt.tokens <= 200

    capfd.readouterr()
    retrieve = ["retrieve", str(index), "--task", "fruit_or_tool", "--k", "3", "--json", "the mango"]
    assert main(retrieve) == 0
    assert json.loads(capfd.readouterr().out) == retrieval.to_json()

    evaluate = ["evaluate", str(tasks), "--lm", str(lm), "--shots", "2", "--json"]
    assert main([*evaluate, "--retrievers", f"random,bm25,{encoder},{run}"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert [mean["retriever"] for mean in answer["means"]] == ["random", "bm25", str(encoder), str(run)]
    assert all(0 <= mean["low"] <= mean["mean"] <= mean["high"] <= 100 for mean in answer["means"])
