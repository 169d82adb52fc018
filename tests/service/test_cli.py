"""``udr retrieve`` and ``udr prompt`` give the same answers from a service as from its index."""

import json
import sys
from pathlib import Path

import pytest

from tests.service.conftest import Words
from tests.service.running import running
from tests.tiny_models import save_encoder
from udr.cli import main
from udr.installation import install_extra
from udr.retrieval import Retriever
from udr_service import Settings, create_app

Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_retrieve_and_prompt_use_the_service(capsys: Captured, retriever: Retriever) -> None:
    with running(create_app(retriever, Settings(), Words())) as url:
        query = ("--url", url, "a dull day", "--task", "notes")
        selection = ("--balance", "--diversity", "0.2", "--k", "4")
        status, out, _ = run(capsys, "retrieve", *query, *selection, "--json")
        expected = retriever.retrieve("notes", "a dull day", 4, balance=True, diversity=0.2)
        assert (status, json.loads(out)) == (0, json.loads(json.dumps(expected.to_json())))

        review = ("--task", "reviews", "--input", "thing=lamp", "--input", "text=it glows", "--budget", "60", "--json")
        status, out, _ = run(capsys, "prompt", "--url", url, *review, "--order", "nearest_first", "--format", "records")
        answer = json.loads(out)
        assert status == 0 and answer["records"] and answer["tokens"] <= 60
        similarities = [demonstration["similarity"] for demonstration in answer["demonstrations"]]
        assert similarities == sorted(similarities, reverse=True)

        explained = (*query, "--k", "3", "--explain")
        _, out, err = run(capsys, "prompt", *explained, "--budget", "30")
        lines = [line for line in err.splitlines() if line[:3] in ("+  ", "-  ")]
        assert out.endswith("Note: a dull day\nMood:\n") and len(lines) == 20
        assert any("does not fit the budget" in line for line in lines)
        _, out, _ = run(capsys, "retrieve", *explained)
        assert sum(line.startswith("+  ") for line in out.splitlines()) == 3


URL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", URL, "DIR", "a day"), "omit the index directory with --url; found 'DIR'"),
        (("--url", URL, "DIR", "--input", "text=a day"), "omit the index directory with --url; found 'DIR'"),
        (("--url", URL, "--allow-hub", "a day"), "omit --allow-hub with --url, since the service has its own"),
        (("--url", URL, "--fp16", "a day"), "omit --fp16 with --url, since the service has its own"),
        (("a day",), "an index directory before the query, or a service, --url; found only 'a day'"),
        (("a day " * 100,), "an index directory before the query, or a service, --url; found only 'a day"),
        (("--input", "text=x"), "an index directory, DIR, or a service, --url; found neither"),
    ],
)
def test_exactly_one_of_index_and_service_is_needed(capsys: Captured, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run(capsys, "retrieve", *arguments, "--task", "notes")

    assert (status, out) == (2, "") and message in err


@pytest.mark.parametrize("command", [("retrieve",), ("prompt", "--budget", 9), ("index", "list"), ("index", "delete")])
def test_an_index_is_not_taken_for_a_query_or_a_task(capsys: Captured, tiny: Path, command: tuple[str, ...]) -> None:
    task = () if command[0] == "index" else ("--task", "notes")
    status, out, err = run(capsys, *command, tiny, "--url", URL, *task)

    assert (status, out) == (2, "") and f"omit the index directory with --url; found '{tiny}'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--replicas", "2"), "--replicas has no effect without --runner ray; add that, or omit --replicas"),
        (("--ray-address", "auto"), "--ray-address has no effect without --runner ray"),
        (("--runner", "ray", "--workers", "2"), "--workers has no effect without --runner local"),
        (("--runner", "ray", "--compact-rows", "9"), "--compact-rows has no effect without --runner local"),
        (("--runner", "ray", "--watch-seconds", "0"), "--watch-seconds 0 would let a replica that starts later answer"),
        (("--runner", "ray", "--gpus-per-replica", "0.5"), "--gpus-per-replica 0.5 needs --device cuda, found --devic"),
        (
            ("--runner", "ray", "--gpus-per-replica", "0", "--device", "cuda"),
            "--device cuda needs --gpus-per-replica above 0: Ray hides GPUs that no replica asked for",
        ),
        (("--runner", "spark"), "setting runner (--runner or UDR_RUNNER): must be 'local' or 'ray'"),
    ],
)
def test_serve_refuses_options_of_another_runner(
    capsys: Captured, index: Path, arguments: tuple[str, ...], message: str
) -> None:
    status, _, err = run(capsys, "serve", index, *arguments)
    assert status == 2 and message in err


def test_replicas_refuse_a_tokenizer_that_they_would_not_find(
    capsys: Captured, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_encoder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "serve", index, "--runner", "ray", "--tokenizer", "model")
    assert status == 2 and f"model is a relative path, and replicas run in other folders; give {tmp_path}/model" in err
    # An absolute one with a slash at its end is fine, so the next error is met.
    status, _, err = run(capsys, "serve", tmp_path / "none", "--runner", "ray", "--tokenizer", f"{tmp_path}/model/")
    assert status == 1 and "no index here" in err


def test_compactions_are_refused_at_the_start_where_label_heads_cannot_be_fitted(
    capsys: Captured, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    status, _, err = run(capsys, "serve", index, "--compact-rows", "9")
    assert status == 1 and "scikit-learn, which --compact-rows needs for label heads, is not installed" in err
    assert install_extra("index") in err


@pytest.mark.parametrize(
    ("arguments", "name", "value", "needed"),
    [
        (("--runner", "ray"), "UDR_WORKERS", "2", "--runner local"),
        (("--runner", "ray"), "UDR_LINGER_SECONDS", "9", "--runner local"),
        ((), "UDR_REPLICAS", "2", "--runner ray"),
    ],
)
def test_serve_names_variables_of_another_runner_and_goes_on(
    capsys: Captured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    name: str,
    value: str,
    needed: str,
) -> None:
    monkeypatch.setenv(name, value)
    status, _, err = run(capsys, "serve", tmp_path / "none", *arguments)
    assert status == 1 and f"without effect, since they need {needed}: {name}\n" in err and "no index here" in err
