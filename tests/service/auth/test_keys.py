"""API keys: the file's format, which key is valid, and that no error, file or output shows a key twice."""

import logging
import multiprocessing
import os
import stat
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from udr.cli import GROUP, main
from udr.errors import ConfigError
from udr_service.auth import KeyEntry, KeyFile, KeyRing, Scope, append, changes, new_key

# The SHA-256 of "abc", "abcd" and "".
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABCD = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SECRET = "udr_JdTq9cX0yVb3mKz7Lw2Rf5Hn8Pg1Es4Ua6Oi-_Wx0YZ"


def entry(name: str = "page", scope: str = "read", sha256: str = ABC) -> str:
    return f'[[keys]]\nname = "{name}"\nscope = "{scope}"\nsha256 = "{sha256}"\n'


FILE = f"# a comment\n{entry()}\n{entry('Ops.1_x-y', 'admin', ABCD.upper())}"


def scope_of(ring: KeyRing, presented: str) -> Scope | None:
    match = ring.entry_of(presented)
    return match.scope if match else None


def shown(error: BaseException | None) -> str:
    """What a traceback shows of an error and its causes."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(texts)


def test_a_file_lists_keys_by_their_hashes() -> None:
    ring = KeyRing.parse(FILE)
    assert ring.keys == [
        KeyEntry(name="page", scope=Scope.READ, sha256=ABC),
        KeyEntry(name="Ops.1_x-y", scope=Scope.ADMIN, sha256=ABCD),
    ]
    assert (scope_of(ring, "abc"), scope_of(ring, "abcd")) == (Scope.READ, Scope.ADMIN)


@pytest.mark.parametrize("presented", ["", "ABC", "abc ", " abc", "abc\0", ABC, "Abcd", "\ud800"])
def test_unknown_keys_have_no_scope(presented: str) -> None:
    assert scope_of(KeyRing.parse(FILE), presented) is None


def test_a_ring_that_has_been_asked_equals_another_of_the_same_file() -> None:
    ring = KeyRing.parse(FILE)
    assert ring.entry_of("abc") is not None
    assert ring == KeyRing.parse(FILE) and changes(ring, KeyRing.parse(FILE)) == {}


INVALID = {
    "nothing": ("", "holds no keys; add one with: udr keys new"),
    "not TOML": ("[[keys]\n", "is not TOML: .*line 1"),
    "another table": (entry() + "[server]\nport = 1\n", r"'server': is unknown; an entry of \[\[keys\]\] has"),
    "a table for a list": (
        entry().replace("[[keys]]", "[keys]"),
        "'keys': must be entries, each below",
    ),
    "a list of texts": ('keys = ["abc"]', "'keys', entry 1: must be a table"),
    "an unknown field": (entry() + 'owner = "me"\n', "entry 1, 'owner': is unknown.*name, scope and sha256"),
    "a key": (entry() + 'key = "abcdefg"\n', "'key': is unknown.*only its SHA-256"),
    "no name": (entry().replace('name = "page"\n', ""), "entry 1, 'name': is missing"),
    "a number for a name": (entry().replace('"page"', "3"), "'name': must be a valid string"),
    "an unknown scope": (
        entry() + entry("b", "rite", ABCD),
        "entry 2, 'scope': must be 'read', 'write' or 'admin'; found 'ri",
    ),
    "a short digest": (entry(sha256=ABC[:-1]), "'sha256': must be 64 hexadecimal digits.*found 63 characters"),
    "a short text for a digest": (entry(sha256="abcdefg"), "found 7 characters"),
    "Arabic digits": (entry(sha256="٣" * 64), "must be 64 hexadecimal digits"),
    "the digest of nothing": (entry(sha256=EMPTY), "is the SHA-256 of an empty text"),
    "one name twice": (entry() + entry("b", "read", EMPTY[::-1]) + entry(sha256=ABCD), "entries 1 and 3 .*same name"),
    "one key twice": (entry() + entry("b", "admin", ABC.upper()), "entries 1 and 2 .*same sha256"),
}


@pytest.mark.parametrize(("text", "message"), INVALID.values(), ids=INVALID)
def test_invalid_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message) as raised:
        KeyFile.read(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)
    assert "abcdefg" not in shown(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        entry(sha256=SECRET),
        entry(name=SECRET),
        entry() + f'{SECRET} = "page"\n',
        f"[{SECRET}]\n[{SECRET}]\n",
        f"{entry()}# {SECRET}\n",
    ],
)
def test_a_plain_key_in_the_file_is_refused_and_not_shown(text: str) -> None:
    line = text[: text.index(SECRET)].count("\n") + 1
    with pytest.raises(ConfigError, match=rf"line {line} holds what seems to be a key; .*udr keys new") as raised:
        KeyRing.parse(text)
    assert SECRET[4:] not in shown(raised.value)


@pytest.mark.parametrize(
    "text",
    [entry(**{field: "sk-" + "x1" * 20}) for field in ("name", "scope", "sha256")]
    + [f"{'sk-' + 'x1' * 20} = 1\n{entry()}", entry() + f"{'sk-' + 'x1' * 20} = 1\n"],
)
def test_a_foreign_key_in_the_file_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match="43 characters") as raised:
        KeyRing.parse(text)
    assert "x1x1" not in shown(raised.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}/none: no such file; create it with: udr keys new .* --file"):
        KeyFile.read(tmp_path / "none")
    with pytest.raises(ConfigError, match=f"{tmp_path}: Is a directory"):
        KeyFile.read(tmp_path)
    (tmp_path / "latin").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="latin: not UTF-8: byte 5"):
        KeyFile.read(tmp_path / "latin")


def test_reading_again_keeps_the_keys_if_the_file_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry())
    keys = KeyFile(path)
    before = keys.ring
    for text in ("", entry(scope="all")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"keys\.toml"):
            keys.read_again()
    path.write_text(entry("next", "admin", ABCD))
    assert keys.ring is before
    keys.read_again()
    assert (scope_of(keys.ring, "abc"), scope_of(keys.ring, "abcd")) == (None, Scope.ADMIN)


def test_changes_name_the_keys() -> None:
    before = KeyRing.parse(FILE + entry("same", sha256=EMPTY[::-1]))
    after = KeyRing.parse(entry("page", "admin") + entry("new", sha256=ABCD) + entry("same", sha256=EMPTY[::-1]))
    assert changes(before, after) == {"added": ["new"], "removed": ["Ops.1_x-y"], "changed": ["page"]}
    assert changes(before, before) == {}


def test_new_keys_are_long_distinct_and_valid_by_their_entries() -> None:
    keys, entries = zip(*(new_key(f"n{number}", scope) for number, scope in enumerate([*Scope] * 4)), strict=True)
    assert len(set(keys)) == 12 and all(key.startswith("udr_") and len(key) == 47 for key in keys)
    text = "\n".join(entry.to_toml() for entry in entries)
    ring = KeyRing.parse(text)
    assert ring.keys == list(entries)
    assert [scope_of(ring, key) for key in keys] == [*Scope] * 4
    assert not any(key[4:] in text for key in keys)
    assert not any(entry.sha256 in repr(entry) for entry in entries)


def test_new_key_refuses_names_that_logs_cannot_show() -> None:
    for name in ("", "a b", 'a"', "a\n", "é", "x" * 33):
        with pytest.raises(ConfigError, match="'name': must be"):
            new_key(name, Scope.READ)


def test_a_filter_of_any_characters_is_read_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    _, entry = new_key("shop", Scope.READ, filter='tenant = "a\x7f\t\u00e9\U0001f600\U0010ffff\u2028"')
    append(path, entry)
    assert KeyFile(path).ring.keys == [entry]
    with pytest.raises(ConfigError, match="'filter': is not valid Unicode: it contains a lone surrogate"):
        new_key("shop", Scope.READ, filter='tenant = "\udc80"')


def test_append_keeps_the_text_and_permissions_and_makes_a_new_file_its_owner_s_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    first, second = new_key("first", Scope.READ)[1], new_key("second", Scope.ADMIN)[1]
    umask = os.umask(0)
    try:
        append(path, first)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(FILE, "utf-8")
    path.chmod(0o644)
    append(path, second)
    assert path.read_text("utf-8") == f"{FILE}\n{second.to_toml()}"
    # Such as for the user of a container.
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_append_leaves_invalid_files_alone(tmp_path: Path) -> None:
    path, added = tmp_path / "keys.toml", new_key("page", Scope.READ)[1]
    for text in (FILE, "[[keys]", entry(sha256=SECRET)):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"keys\.toml: "):
            append(path, added)
        assert path.read_text() == text
    with pytest.raises(ConfigError, match=r"none/keys\.toml: No such file or directory"):
        append(tmp_path / "none" / "keys.toml", added)


def add_keys(path: Path, start: str) -> None:
    for number in range(10):
        append(path, new_key(f"{start}{number}", Scope.READ)[1])


def test_processes_that_append_at_once_lose_no_key(tmp_path: Path) -> None:
    path, context = tmp_path / "keys.toml", multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_keys, args=(path, start)) for start in "abcd"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(KeyFile.read(path).keys) == 40
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ``udr`` with ``udr keys``, whatever else is installed."""
    entry_point = EntryPoint(name="keys", value="udr_service.auth.cli:app", group=GROUP)
    monkeypatch.setattr("udr.cli.app._commands", lambda: [entry_point])


@pytest.mark.usefixtures("command")
def test_the_command_prints_the_key_once_and_its_entry_to_stderr_or_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path, keys = tmp_path / "keys.toml", list[str]()
    for options in ([], ["--file", str(path)]):
        for name, scope in (("page", "read"), ("ops", "admin")):
            assert main(["keys", "new", "--name", name, "--scope", scope, *options]) == 0
            out, err = capsys.readouterr()
            keys.append(out.removesuffix("\n"))
            assert keys[-1] not in err and "\n" not in keys[-1]
            if options:
                assert (
                    err == f"udr: {path}: added {name}, {scope}; running services accept it after their next reload\n"
                )
            else:
                assert scope_of(KeyRing.parse(err), keys[-1]) is Scope(scope)
    assert [scope_of(KeyFile.read(path), key) for key in keys[2:]] == [Scope.READ, Scope.ADMIN]
    assert caplog.text == ""


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "page"], "Missing option '--scope'"),
        (["--name", "page", "--scope", "all"], "'all' is not one of"),
        (["--name", "a page", "--scope", "read"], "'name': must be"),
        (["--name", "page", "--scope", "read"], "keys.toml: entries 1 and 3 have the same name"),
    ],
)
def test_a_failed_command_shows_no_key(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(FILE)
    assert main(["keys", "new", *options, "--file", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err
