"""What is said to do if there are too few test rows, and that it is said in the verdict."""

from dataclasses import replace

from tests.training.evaluation.test_verdict import answers
from udr_training.evaluation import Evaluation, RowCounts, TaskResult, how_to_use_more, verdict


def test_rows_that_were_left_out_come_first_then_the_pool_and_at_last_new_rows() -> None:
    counts = {"mail": RowCounts(150, 220, 900), "chat": RowCounts(20, 20, 1000)}
    assert how_to_use_more("tasks", counts, 300, "--test-rows 220") == (
        "70 test rows are left out; to use them: --test-rows 220"
    )
    counts["mail"] = RowCounts(220, 220, 900)
    command = "to hold out more: udr tasks split 'my tasks' --tasks chat --test-rows 150"
    assert how_to_use_more("my tasks", counts, 300, "") == command
    assert how_to_use_more("tasks", counts, 3000, "") == (
        "that takes more rows than there are: add some to mail and chat"
    )


def test_a_verdict_of_too_few_rows_says_how_to_use_more() -> None:
    values = {"bm25": answers(15, 20), "runs/one": answers(17, 20, first=1)}
    results = tuple(TaskResult("mail", "mail", "accuracy", name, 4, 20, value) for name, value in values.items())
    config = {"task_folder": "tasks", "lm_name": "my-lm", "pool": None}
    tasks = {"mail": {"pool": 9000, "test_rows": 20, "of": 25}}
    evaluation = Evaluation({"bm25": "bm25", "runs/one": "one"}, (4,), "bm25", results, {**config, "tasks": tasks})
    evaluation = replace(evaluation, runs=("runs/one",))
    found = verdict(evaluation)
    # Not a command: it would lack the options that limit what a server may cost.
    assert found.remedy == "5 test rows are left out; to use them: run the same command without --limit"
    assert found.text == f"{found.sentence}\n{found.remedy}" and found.sentence.endswith(
        "needed for a gain of this size."
    )
    trained = verdict(replace(evaluation, use_all="remove run/report"))
    assert trained.remedy == "5 test rows are left out; to use them: remove run/report"
    tasks["mail"]["of"] = 20
    found = verdict(evaluation)
    needed = found.rows_missing + 20
    assert found.remedy == f"to hold out more: udr tasks split tasks --tasks mail --test-rows {needed}"
