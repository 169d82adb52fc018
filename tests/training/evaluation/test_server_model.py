"""Evaluations with a language model behind a server: prompts, parsed answers, and no request without need."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.answering import chat_server as fake
from tests.training.answering.chat_server import ChatServer, Messages
from tests.training.conftest import Udr, assert_refused
from tests.training.feedback.remote.completions_server import Failure, watched
from tests.training.feedback.remote.test_kinds import likeliest, talk
from udr.data import open_collection
from udr.models import load_tokenizer
from udr_training.answering import Parsing, PromptSettings, ServerLM, estimated_tokens
from udr_training.evaluation import EvaluationConfig, evaluate, open_retriever
from udr_training.evaluation.answers import ServerModel


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with watched(fake.running()) as started:
        yield started


def command(tasks: Path, server: ChatServer, *more: object) -> list[object]:
    return ["evaluate", tasks, "--lm", f"{server.url}?api=chat", "--retrievers", "random,bm25", "--shots", "2", *more]


def test_a_chat_server_is_evaluated_by_its_address_alone(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.models = None
    status, out, _ = udr(*command(tasks, server, "--output", tmp_path / "out", "--json"))
    assert status == 0
    assert "counted by an estimate" in caplog.text and "has no list of models" in caplog.text
    answer = json.loads(out)
    assert len(server.bodies) == 3 * 4 * 2
    # The copied answers are right where the nearest demonstration has the query's.
    assert {value["parsing"]["strict"] for value in answer["tasks"]} == {4}
    assert answer["config"]["prompts"]["tokenizer"] is None
    system, *turns, last = server.asked[0]
    assert (system["role"], last["role"]) == ("system", "user")
    assert [message["role"] for message in turns] == ["user", "assistant"] * 2
    # Nothing changes, and nothing is sent, if it is run again.
    before, lists = len(server.bodies), server.num_lists
    status, again, _ = udr(*command(tasks, server, "--output", tmp_path / "out", "--json"))
    assert (status, json.loads(again)) == (0, answer)
    assert (len(server.bodies), server.num_lists) == (before, lists)


def test_answers_are_those_of_the_nearest_demonstration(tasks: Path, server: ChatServer) -> None:
    collection, config = open_collection(tasks, ["reviews"]), EvaluationConfig(retrievers=("bm25",), shots=(1,))
    result = evaluate(collection, ServerModel(ServerLM(f"{server.url}?api=chat")), config).results[0]
    (pool, queries) = collection.tasks["reviews"].pool(), collection.tasks["reviews"].rows("test")
    nearest = [shown.rows[0] for shown in open_retriever("bm25").demonstrations(pool, list(queries), 1)]
    right = sum(row.target == query.target for row, query in zip(nearest, queries, strict=True))
    assert result.estimate.value == pytest.approx(100 * right / len(queries))
    assert result.parsing == {Parsing.STRICT: 4, Parsing.LENIENT: 0, Parsing.UNPARSABLE: 0}


def test_a_completions_server_continues_texts(udr: Udr, tasks: Path, server: ChatServer) -> None:
    server.answer_of = lambda messages: f" {re.findall('Verdict: (.*)', messages[-1]['content'])[-1]}"
    status, out, _ = udr(
        *["evaluate", tasks, "--tasks", "reviews", "--lm", f"{server.url}?model=m", "--retrievers", "bm25"],
        *["--shots", "1", "--json"],
    )
    (value,) = json.loads(out)["tasks"]
    assert status == 0 and value["parsing"] == {"strict": 4, "lenient": 0, "unparsable": 0}
    body = server.bodies[0]
    assert body["prompt"].endswith("Verdict:") and body["stop"] == ["\n"] and "messages" not in body


def test_a_completions_server_may_write_the_blank_lines_of_targets(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    with (copied / "words" / "reverse" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "mail", "input": {"words": "a"}, "target": "Hello,\n\nyours"}) + "\n")
    arguments = [*["evaluate", copied, "--tasks", "reverse", "--lm", f"{server.url}?model=m"], "--retrievers", "bm25"]
    server.answer_of = lambda messages: "Hello,\n\nyours"
    assert udr(*arguments)[0] == 0 and server.bodies[-1]["stop"] == ["\n\nWords:"]
    task = copied / "words" / "reverse" / "task.toml"
    task.write_text(task.read_text("utf-8").replace('"Words: {words}"', '"{words}"'), "utf-8")
    assert udr(*arguments)[0] == 0 and "stop" not in server.bodies[-1]


def test_one_long_target_leaves_half_of_the_budget_to_prompts(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    with (copied / "words" / "reverse" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "long", "input": {"words": "a b"}, "target": "word " * 3400}) + "\n")
    arguments = [*command(copied, server, "--tasks", "reverse", "--budget", 600)]
    assert udr(*arguments, "--dry-run")[0] == 0
    assert udr(*arguments)[0] == 0 and len(server.bodies) == 8
    assert {body["max_tokens"] for body in server.bodies} == {300}
    assert caplog.text.count("as long as the target of row 'long' needs") == 1 and "the budget of 600" in caplog.text


def test_unparsable_answers_are_counted_and_shown(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    def answer(messages: Messages) -> str:
        return "I cannot say." if "0" in messages[-1]["content"] else "GOOD."

    server.answer_of = answer
    status, out, err = udr(*command(tasks, server, "--tasks", "reviews", "--output", tmp_path / "out"))
    assert status == 0 and out
    assert "reviews, bm25: 25.0, 1 of 4 answers unparsable" in err
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "- unparsable answers, bm25, 2 demonstrations: reviews 1 of 4" in report
    assert "by chat, fingerprint server-" in report and "- spent: 8 requests, " in report
    html = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "unparsable answers, bm25, 2 demonstrations" in html and "reviews 1 of 4" in html
    file = tmp_path / "out" / "predictions" / "reviews" / "bm25.2-shot.jsonl"
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()[1:]]
    assert [(line["written"], line["text"], line["parsing"]) for line in lines[:2]] == [
        ("I cannot say.", "I cannot say.", "unparsable"),
        ("GOOD.", "good", "lenient"),
    ]


def test_answers_that_are_cut_are_counted(
    udr: Udr, tasks: Path, server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.finish, server.answer_of = "length", lambda messages: "<think>Let me see"
    assert udr(*command(tasks, server, "--tasks", "reviews"))[0] == 0
    assert "reviews: 4 of 4 answers were cut, and 4 of these are unparsable; a model that thinks first" in caplog.text


def test_a_dry_run_counts_what_would_be_asked(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    options: list[object] = ["--tasks", "colours,reviews", "--retrievers", "random,bm25", "--shots", "0,2"]
    _, out, _ = udr(*command(tasks, server, *options), "--dry-run", "--json")
    plan = json.loads(out)
    assert server.asked == []
    assert plan["cost"] is None
    status, out, _ = udr(*command(tasks, server, *options), "--dry-run", "--prices", "10,40")
    cost = f"{(value := plan['prompt_tokens'] / 1e5 + 4 * plan['answer_tokens'] / 1e5):.2f}"
    assert (
        status == 0
        and out.startswith(f"{plan['requests']} requests with about ")
        and f" about {cost} in the unit of --prices." in out
    )
    first, few = out.splitlines()
    _, out, _ = udr(*command(tasks, server, *options), "--dry-run", "--json", "--lm-set", "body.n=3")
    assert json.loads(out)["answer_tokens"] == pytest.approx(3 * plan["answer_tokens"], abs=2)
    assert plan["answer_tokens"] >= plan["requests"] and first.endswith(f"--max-requests {plan['requests']}")
    assert plan["test_rows"] == 8 and few.startswith("8 test rows tell only gains of about 31 points or more from ch")
    filtered = [
        *options,
        "--retrievers",
        'random,bm25?filter=$target in ["good", "so, so"],dense',
        "--shots",
        "2",
        "--json",
    ]
    _, out, _ = udr(*command(tasks, server, *filtered), "--dry-run")
    assert json.loads(out)["requests"] == 2 * 4 * 3
    _, out, _ = udr(*command(tasks, server, "--retrievers", "bm25,oracle", "--shots", "2"), "--dry-run")
    assert "those of the oracle, at least one for each candidate, come on top" in out and "--max-requests" not in out

    udr(*command(tasks, server, *options, "--output", tmp_path / "out"))
    assert len(server.asked) == plan["requests"] == 2 * 4 * (1 + 2)
    assert plan["prompt_tokens"] == pytest.approx(sent(server), rel=0.05)
    limits = ["--dry-run", "--prices", "10,40", "--max-cost", "0.001", "--output", tmp_path / "out"]
    _, out, _ = udr(*command(tasks, server, *options), *limits)
    assert "; with those sent before, that can be more than --max-cost 0.001 allows. Nothing was asked. 24 requ" in out
    assert "24 requests were sent before, which count towards a budget; what was answered is not asked for aga" in out
    _, out, _ = udr(*command(tasks, server, *options), *limits, "--json")
    plan = json.loads(out)
    assert (plan["cost"], plan["exceeds"], plan["sent"]) == (pytest.approx(value), "--max-cost 0.001", 24)
    assert_refused(udr("evaluate", tasks, "--retrievers", "bm25", "--dry-run"), 2, "runs in this process")
    # Eight more, for which a budget of these eight has no room.
    more = [*command(tasks, server, "--tasks", "colours,reviews", "--retrievers", "bm25", "--shots", "1")]
    more += ["--output", tmp_path / "out", "--max-requests"]
    _, out, _ = udr(*more, 8, "--dry-run")
    assert "can be more than --max-requests 8 allows" in out and out.splitlines()[0].endswith(": --max-requests 32")
    assert_refused(udr(*more, 31), 1, "--max-requests 31")
    assert udr(*more, 32)[0] == 0 and len(server.asked) == 32


def sent(server: ChatServer) -> int:
    """The tokens of all prompts that a server was sent, estimated as a budget counts them: 4 more for each message."""
    return sum(estimated_tokens(message["content"]) + 4 for messages in server.asked for message in messages)


@pytest.mark.parametrize(
    "options",
    [["--list-options", "--answer-form", "json"], ["--layout", "system"], ["--budget", "150"]],
    ids=lambda options: options[0],
)
def test_a_dry_run_counts_the_prompts_that_its_options_make(
    udr: Udr, tasks: Path, server: ChatServer, options: list[str]
) -> None:
    asked = command(tasks, server, "--tasks", "colours,reviews", *options, "--shots", "6", "--json")
    _, out, _ = udr(*asked, "--dry-run")
    assert udr(*asked)[0] == 0
    assert json.loads(out)["prompt_tokens"] == pytest.approx(sent(server), rel=0.03)


def test_a_dry_run_counts_by_the_tokenizer(udr: Udr, tasks: Path, server: ChatServer, lm_folder: Path) -> None:
    asked = command(tasks, server, "--tasks", "reviews", "--tokenizer", lm_folder, "--json")
    _, out, _ = udr(*asked, "--dry-run")
    assert udr(*asked)[0] == 0
    count = load_tokenizer(str(lm_folder)).count
    tokens = sum(count(message["content"]) + 4 for messages in server.asked for message in messages)
    assert json.loads(out)["prompt_tokens"] == pytest.approx(tokens, rel=0.03)


def test_an_interrupted_evaluation_asks_only_the_rest(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path
) -> None:
    stopped = command(tasks, server, "--output", tmp_path / "out", "--max-requests", 9, "--prices", "1,2")
    assert_refused(udr(*stopped), 1, "--max-requests 9 is reached: spent 9 requests")
    server.failures = [Failure(500, headers={"Retry-After": "0.01"})]
    status, _, err = udr(*command(tasks, server, "--output", tmp_path / "out"))
    assert status == 0 and "spent in all: 25 requests" in err
    asked = [json.dumps(messages) for messages in server.asked]
    assert len(asked) == 25 and len(set(asked)) == 24


def test_more_test_rows_ask_only_for_these(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    arguments = command(tasks, server, "--output", tmp_path / "out")
    status, out, _ = udr(*arguments, "--limit", 2)
    assert status == 0 and "to use them: run the same command without --limit\n" in out
    assert (udr(*arguments)[0], len(server.bodies)) == (0, 3 * 2 * 4)
    assert len({json.dumps(messages) for messages in server.asked}) == 3 * 2 * 4


def test_answers_read_by_older_rules_are_read_anew_and_not_asked_for(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = command(tasks, server, "--tasks", "reviews", "--output", tmp_path / "out", "--json")
    status, out, _ = udr(*arguments)
    assert status == 0
    for file in (tmp_path / "out" / "predictions" / "reviews").iterdir():
        header, *lines = map(json.loads, file.read_text("utf-8").splitlines())
        header["made_from"].pop("reading", None)
        lines = [{**line, "text": line["written"], "parsing": "unparsable"} for line in lines]
        file.write_text("".join(f"{json.dumps(line)}\n" for line in (header, *lines)), "utf-8")
    status, again, _ = udr(*arguments)
    assert (status, json.loads(again)["tasks"]) == (0, json.loads(out)["tasks"])
    assert len(server.bodies) == 8 and "changed since: reading" in caplog.text


def test_another_way_of_asking_is_another_evaluation(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    options: list[object] = ["--tasks", "reviews", "--output", tmp_path / "out"]
    assert udr(*command(tasks, server, *options))[0] == 0
    for more in (["--list-options"], ["--lm-set", "body.top_p=0.5"], ["--layout", "system"]):
        assert_refused(udr(*command(tasks, server, *options, *more)), 2, "contains another evaluation")
    # The rate of requests changes no answer.
    assert udr(*command(tasks, server, *options, "--lm-set", "concurrency=2"))[0] == 0
    assert len(server.bodies) == 8


def test_layout_listing_and_order_are_the_builders(tasks: Path, server: ChatServer) -> None:
    collection = open_collection(tasks, ["colours"])
    config = EvaluationConfig(retrievers=("bm25?order=nearest_first",), shots=(3,), limit=1)
    settings = PromptSettings.read(layout="system", form="text", budget=4096, list_options=True, tokenizer=None)
    evaluate(collection, ServerModel(ServerLM(f"{server.url}?api=chat"), settings), config)
    system, last = server.asked[0]
    assert system["content"].startswith("Choose the colour.\nOptions:\n- green\n- blue\n- red\n\nThing: ")
    pool = collection.tasks["colours"].pool()
    query = json.loads((tasks / "choice" / "colours" / "test.jsonl").read_text("utf-8").splitlines()[0])
    assert last["content"].endswith("Colour:") and query["input"]["thing"].split()[0]
    (shown,) = open_retriever("bm25").demonstrations(pool, [row_of(collection.tasks["colours"].rows("test"), last)], 3)
    places = [system["content"].index(str(row.input["thing"])) for row in shown.rows]
    assert places == sorted(places)


def row_of(rows: Any, last: dict[str, str]) -> Any:
    (row,) = (row for row in rows if f"Thing: {row.input['thing']}\n" in last["content"])
    return row


def test_a_budget_leaves_out_the_farthest_demonstrations(
    tasks: Path, server: ChatServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    collection, config = (
        open_collection(tasks, ["reviews"]),
        EvaluationConfig(retrievers=("bm25",), shots=(8,), limit=1),
    )
    settings = PromptSettings(budget=150)
    evaluate(collection, ServerModel(ServerLM(f"{server.url}?api=chat"), settings), config, output=tmp_path / "out")
    assert "task reviews: 1 of 1 prompts show fewer demonstrations than 8, to fit --budget 150" in caplog.text
    line = (tmp_path / "out" / "predictions" / "reviews" / "bm25.8-shot.jsonl").read_text("utf-8").splitlines()[1]
    kept = json.loads(line)["demonstrations"]
    (query,) = [row for row in collection.tasks["reviews"].rows("test") if row.id == json.loads(line)["query"]]
    (shown,) = open_retriever("bm25").demonstrations(collection.tasks["reviews"].pool(), [query], 8)
    assert 0 < len(kept) < 8 and kept == [row.id for row in shown.rows[: len(kept)]][::-1]


def test_json_is_asked_for_and_shown_in_the_demonstrations(udr: Udr, tasks: Path, server: ChatServer) -> None:
    options = ["--tasks", "reviews,reverse", "--answer-form", "schema", "--json"]
    status, out, _ = udr(*command(tasks, server, *options))
    assert status == 0
    assert {value["parsing"]["strict"] for value in json.loads(out)["tasks"]} == {4}
    by_task = {body["messages"][0]["content"].partition("\n")[0]: body for body in server.bodies}
    body = by_task["Say whether the review is good or bad."]
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"answer": {"type": "string", "enum": ["good", "bad"]}}
    assert body["messages"][0]["content"].endswith('Answer as JSON: {"answer": "..."}')
    assert json.loads(body["messages"][2]["content"]).keys() == {"answer"}
    generated = by_task["Say the words in reverse."]["response_format"]["json_schema"]["schema"]
    assert generated["properties"] == {"answer": {"type": "string"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lm", "http://host/v1?api=talk"], "api= must be one of completions, chat"),
        (["--lm", "http://host/v1", "--layout", "system"], "--layout is of chat messages"),
        (["--lm", "http://host/v1?api=chat", "--layout", "rows"], "--layout must be one of turns, system"),
        (
            ["--lm", "http://host/v1?api=chat", "--answer-form", "xml"],
            "--answer-form must be one of text, json, schema",
        ),
        (["--lm", "http://host/v1?api=chat", "--budget", "0"], "--budget must be at least 1"),
        (["--lm", "http://host/v1?api=chat", "--max-cost", "1"], "--max-cost needs --prices"),
        (["--lm", "LM", "--max-requests", "1"], "--max-requests needs the address of a server as --lm"),
        (["--lm", "LM", "--list-options"], "--answer-form need the address of a server as --lm"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    udr: Udr, tasks: Path, lm_folder: Path, arguments: list[str], message: str
) -> None:
    given = [str(lm_folder) if argument == "LM" else argument for argument in arguments]
    retrievers = [] if "--retrievers" in given else ["--retrievers", "random"]
    assert_refused(udr("evaluate", tasks, *retrievers, *given), 2, message)


def test_the_oracle_of_a_chat_server_scores_by_its_answers(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path
) -> None:
    server.answer_of, server.top = talk, likeliest
    options = ["--tasks", "reviews,reverse", "--shots", "1", "--limit", "3", "--oracle-candidates", "4", "--json"]
    command = ["evaluate", tasks, "--lm", f"{server.url}?model=m&api=chat", "--retrievers", "random,oracle", *options]
    status, out, _ = udr(*command, "--output", tmp_path / "out")
    assert status == 0
    # The model copies the demonstration, and some candidate has the query's label.
    values = {(value["task"], value["label"]): value["value"] for value in json.loads(out)["tasks"]}
    assert values["reviews", "oracle"] == 100
    sent = len(server.bodies)
    assert udr(*command, "--output", tmp_path / "out")[0] == 0 and len(server.bodies) == sent


def test_the_oracle_scores_by_a_completions_server(udr: Udr, tasks: Path, server: ChatServer) -> None:
    server.answer_of = lambda messages: " good"
    status, out, _ = udr(
        *["evaluate", tasks, "--tasks", "reviews", "--lm", f"{server.url}?model=m", "--retrievers", "random,oracle"],
        *["--shots", "1", "--limit", "2", "--oracle-candidates", "3", "--json"],
    )
    assert status == 0 and len(json.loads(out)["tasks"]) == 2
    assert sum(body.get("echo", False) for body in server.bodies) == 3 + 2 * 3 * 2
