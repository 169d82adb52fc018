"""Errors of the system that a user can meet, by command: one line with the file, what is wrong with it, what to do."""

from pathlib import Path

import pytest

from udr.cli import main

TASKS = Path(__file__).parents[1] / "examples" / "tasks"
# Relative, so that the names of the cases are those of no machine.
EXAMPLES = "tasks"
FILE, FOLDER, NOTHING = "a-file", "a-folder", "nothing"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["index", "build", EXAMPLES, "--out", FILE],
            "--out: a-file is a file; name a folder, which need not exist",
        ),
        (["index", "build", NOTHING, "--out", "x"], "nothing: no such folder of tasks"),
        (
            ["index", "build", EXAMPLES, "--out", "x", "--model", FILE],
            "a-file is not an encoder; it needs",
        ),
        (["index", "build", EXAMPLES, "--out", "x", "--tokenizer", FOLDER], "a-folder contains no tokenizer.json"),
        (["index", "info", NOTHING], "nothing: no index here (no file CURRENT); run: udr index build"),
        (["index", "publish", FOLDER, "x"], "a-folder: no index here"),
        (["index", "prune", FILE, "--keep", "1"], "a-file: no index here"),
        (["retrieve", FOLDER, "x", "--task", "t"], "a-folder: no index here"),
        (
            ["retrieve", "--url", "http://127.0.0.1:9", "x", "--task", "t"],
            "(Connection refused); start the service",
        ),
        (
            ["retrieve", "--url", "127.0.0.1:9", "x", "--task", "t"],
            "must be like http://127.0.0.1:8000, found",
        ),
        (["tasks", "check", FILE], "a-file: is a file, not a folder of tasks; make a task of it with: udr init"),
        (
            ["tasks", "stats", EXAMPLES, "--tokenizer", NOTHING],
            "'nothing': no such file or folder, and",
        ),
        (["train", EXAMPLES, "--out", FILE], "cannot create the run directory: "),
        (["train", EXAMPLES, "--out", "x", "--config", FOLDER], "a-folder: Is a directory; a file is needed here"),
        (["train", EXAMPLES, "--out", "x", "--config", NOTHING], "nothing: No such file or directory; check the path"),
        (
            ["train", EXAMPLES, "--out", "x", "--feedback", FOLDER],
            "a-folder: is a folder; --feedback names the file",
        ),
        (["feedback", "stats", FILE], "a-file: holds no run; sources.json is missing"),
        (["serve", NOTHING], "nothing: no index here"),
        (
            ["serve", FOLDER, "--tls-cert", NOTHING, "--tls-key", FILE],
            "nothing: no such file; --tls-cert and",
        ),
        (
            ["serve", FOLDER, "--tls-cert", FILE, "--tls-key", FILE],
            "a-file: not a certificate and its private key",
        ),
        (
            ["serve", FOLDER, "--host", "nowhere.invalid", "--insecure-no-keys"],
            "cannot listen on nowhere.invalid",
        ),
        (["serve", FOLDER, "--port", "99999"], "less than or equal to 65535; found 99999"),
        (
            ["keys", "new", "--name", "n", "--scope", "read", "--file", FOLDER],
            "a-folder: Is a directory; a file is needed",
        ),
    ],
    ids=str,
)
def test_a_path_or_address_that_does_not_work_is_named(
    arguments: list[object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_text("text", "utf-8")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / EXAMPLES).symlink_to(TASKS)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status = main(list(map(str, arguments)))
    err = capsys.readouterr().err
    assert status in (1, 2) and message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("udr: error: ") and "Traceback" not in err and "unexpected" not in err
