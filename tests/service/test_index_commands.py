"""``udr index put``, ``get``, ``list`` and ``delete`` by a directory and by a service's URL: one meaning."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.service.conftest import Words
from tests.service.running import running
from udr import Retriever
from udr.cli import main
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key

ROWS = [
    {"id": "n00", "input": {"text": "a changed day"}, "target": "glad", "metadata": {"site": "shop", "stars": 3}},
    {"id": "new", "input": {"text": "a new day"}, "target": "sad"},
]


class Both:
    """The same index as a directory, and served; each command is run on both."""

    def __init__(self, directory: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self.url, self._capsys = str(directory), url, capsys

    def one(self, command: str, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its status, output and errors."""
        status = main(["index", command, *arguments])
        printed = self._capsys.readouterr()
        return status, printed.out, printed.err

    def run(self, command: str, *arguments: str) -> tuple[int, str, str]:
        """Run a command on both, and check that all is the same."""
        by_directory = self.one(command, self.directory, *arguments)
        assert self.one(command, "--url", self.url, *arguments) == by_directory
        return by_directory


@contextmanager
def opened(index: Path, to: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Both]:
    """Copy an index twice, and serve one of the copies."""
    directory, other = (Path(shutil.copytree(index, to / name)) for name in ("directory", "served"))
    with Retriever.open(other, device="cpu") as retriever, running(create_app(retriever, Settings(), Words())) as url:
        capsys.readouterr()
        yield Both(directory, url, capsys)


@pytest.fixture
def both(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Both]:
    with opened(tiny, tmp_path, capsys) as found:
        yield found


def test_both_do_the_same(both: Both, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert both.run("put", "notes", str(file)) == (0, "1 created, 1 replaced; write 1\n", "")
    assert json.loads(both.run("get", "notes", "n00")[1]) == ROWS[0]
    assert both.run("list", "notes", "--filter", 'site = "shop" and stars >= 3')[1].count("\n") == 1
    page = json.loads(both.run("list", "notes", "--limit", "3", "--json")[1])
    status, rest, _ = both.run("list", "notes", "--after", page["next"])
    assert (status, len(rest.splitlines())) == (0, 18)
    assert "udr: more rows follow" in both.run("list", "notes", "--limit", "3")[2]
    assert both.run("delete", "notes", "n01", "nx") == (0, "1 deleted; write 2\n", "")
    assert json.loads(both.run("delete", "notes", "--filter", "stars = 3", "--json")[1])["deleted"] == ["n00"]
    # The client's key for the write is kept, so it has a number of its own.
    assert both.one("delete", both.directory, "notes", "nx")[1] == "nothing to do; write 3\n"
    assert both.one("delete", "--url", both.url, "notes", "nx")[1] == "nothing to do; write 4\n"
    # A page starts behind an id, which may be gone.
    assert both.run("list", "notes", "--after", page["next"])[1] == rest


def test_both_refuse_the_same(both: Both, tmp_path: Path) -> None:
    files = {
        "good": ROWS[1],
        "label": {**ROWS[1], "target": "blue"},
        "long": {**ROWS[1], "id": "n" * 513},
        "field": {**ROWS[1], "input": {}},
    }
    paths = {name: tmp_path / f"{name}.jsonl" for name in files}
    for name, row in files.items():
        paths[name].write_text(json.dumps(row) + "\n")
    good = str(paths["good"])
    for arguments, message in (
        (("get", "notes", "nx"), "task 'notes' has no demonstration 'nx'"),
        (("get", "nodes", "n00"), "unknown task 'nodes'"),
        (("list", "nodes"), "unknown task 'nodes'"),
        (("delete", "nodes", "n00"), "unknown task 'nodes'"),
        (("put", "nodes", good), "unknown task 'nodes'"),
        (("put", "notes", str(paths["label"])), "not one of the labels"),
        (("put", "notes", str(paths["field"])), "is missing"),
        (("put", "notes", str(paths["long"])), "at most 512 characters"),
        (("put", "notes", str(tmp_path / "none.jsonl")), "none.jsonl"),
        (("put", "notes", good, "--if-match", "*"), "has no 'new'"),
        (("delete", "notes", "n00", "--if-match", "0" * 16), "which has version"),
        (("delete", "notes"), "give either the ids to delete, or a filter"),
        (("delete", "notes", "n00", "--filter", "stars = 3"), "give either the ids to delete, or a filter"),
        (("list", "notes", "--filter", "stars >"), "expected a value"),
        (("list", "notes", "--filter", "$target = 3"), "compares '$target' with a number, but the rows have a text"),
        (("list", "notes", "--after", "n03"), "after must be the next of an earlier page"),
        (("list", "notes", "--limit", "0"), "--limit"),
        (("get", "notes"), "give DIR TASK ID, or TASK ID with --url"),
        (("put", "notes"), "give DIR TASK ROWS, or TASK ROWS with --url"),
    ):
        status, out, error = both.one(arguments[0], both.directory, *arguments[1:])
        by_url = both.one(arguments[0], "--url", both.url, *arguments[1:])
        assert (out, message in " ".join(error.split())) == ("", True), error
        assert (by_url[:2], message in " ".join(by_url[2].split())) == ((status, ""), True), by_url
    assert both.run("list", "notes", "--json")[0] == 0


def test_a_cursor_of_another_list_or_version_is_refused(
    both: Both, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cursor = json.loads(both.run("list", "notes", "--limit", "3", "--json")[1])["next"]
    for arguments in (("notes", "--filter", '$target = "sad"'), ("reviews",)):
        status, _, error = both.run("list", *arguments, "--after", cursor)
        assert (status, "after is of a list of another task or with another filter" in error) == (1, True)
    # Rows that are written on top of the version change no place; those that are in another version do.
    assert both.run("delete", "notes", "n02")[0] == 0
    assert both.run("list", "notes", "--after", cursor, "--json")[0] == 0
    assert main(["index", "compact", both.directory]) == 0
    (tmp_path / "other").mkdir()
    with opened(Path(both.directory), tmp_path / "other", capsys) as compacted:
        status, _, error = compacted.run("list", "notes", "--after", cursor)
        assert (status, "after is of version" in error, "begin without it" in error) == (1, True, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("put", "--durability", "disk", "notes", "rows.jsonl"), "omit --durability with --url"),
        (("put", "--allow-hub", "notes", "rows.jsonl"), "omit --allow-hub with --url"),
        (("put", "my-index", "notes", "rows.jsonl"), "omit the index directory with --url; found 'my-index'"),
        (("get", "my-index", "notes", "n00"), "omit the index directory with --url; found 'my-index'"),
        (("list", "my-index", "notes"), "omit the index directory with --url; found 'my-index'"),
        (("get", "notes", "n00"), "http://127.0.0.1:9"),
    ],
)
def test_what_a_service_has_itself_is_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["index", arguments[0], "--url", "http://127.0.0.1:9", *arguments[1:]])
    assert (status, message in capsys.readouterr().err) == (1 if message.startswith("http") else 2, True)


def test_a_folder_may_have_the_name_of_a_task(both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").symlink_to(both.directory)
    expected = both.one("list", both.directory, "notes", "--limit", "3")
    assert expected[0] == 0 and both.one("list", "--url", both.url, "notes", "--limit", "3") == expected
    assert both.one("delete", "--url", both.url, "notes", "n05")[1].startswith("1 deleted")


def test_a_key_is_read_from_the_environment(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key, entry = new_key("reader", Scope.READ)
    append(tmp_path / "keys.toml", entry)
    index = shutil.copytree(tiny, tmp_path / "index")
    with (
        Retriever.open(index, device="cpu") as retriever,
        running(create_app(retriever, Settings(keys=tmp_path / "keys.toml"), Words())) as url,
    ):
        command = ["index", "get", "--url", url, "notes", "n00"]
        monkeypatch.delenv("UDR_API_KEY", raising=False)
        assert (main(command), "set UDR_API_KEY" in capsys.readouterr().err) == (1, True)
        monkeypatch.setenv("UDR_API_KEY", key)
        assert main(command) == 0
        assert main(["index", "delete", "--url", url, "notes", "n00"]) == 1
        assert "scope" in capsys.readouterr().err
