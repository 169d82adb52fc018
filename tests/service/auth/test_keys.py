"""API keys: what the file may say, whose key is taken, and that no message, file or output shows a key twice."""

import hashlib
import hmac
import logging
import os
import stat
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr.cli import GROUP, main
from udr.errors import ConfigError
from udr_service.auth import KeyEntry, KeyFile, KeyRing, Scope, append, new_key

# What `printf abc | sha256sum` says, and the same of "abcd".
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABCD = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SECRET = "udr_JdTq9cX0yVb3mKz7Lw2Rf5Hn8Pg1Es4Ua6Oi-_Wx0YZ"

FILE = f"""# who asks
[[keys]]
name = "page"    # the search page
scope = "read"
sha256 = "{ABC}"

[[keys]]
name = "Ops.1_x-y"
scope = "admin"
sha256 = "{ABCD.upper()}"
"""


def entry(name: str = "page", scope: str = "read", sha256: str = ABC) -> str:
    return f'[[keys]]\nname = "{name}"\nscope = "{scope}"\nsha256 = "{sha256}"\n'


def scope_of(ring: KeyRing, presented: str) -> Scope | None:
    found = ring.entry_of(presented)
    return found.scope if found else None


def chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__


def test_a_file_lists_keys_by_their_hashes() -> None:
    ring = KeyRing.parse(FILE)
    assert ring.entries == (
        KeyEntry(name="page", scope=Scope.READ, sha256=ABC),
        KeyEntry(name="Ops.1_x-y", scope=Scope.ADMIN, sha256=ABCD),
    )
    assert (scope_of(ring, "abc"), scope_of(ring, "abcd")) == (Scope.READ, Scope.ADMIN)
    found = ring.entry_of("abcd")
    assert found is not None and found.name == "Ops.1_x-y"


def test_admin_includes_read_and_not_the_other_way() -> None:
    table = {(scope, needed): scope.includes(needed) for scope in Scope for needed in Scope}
    assert table == {
        (Scope.READ, Scope.READ): True,
        (Scope.READ, Scope.ADMIN): False,
        (Scope.ADMIN, Scope.READ): True,
        (Scope.ADMIN, Scope.ADMIN): True,
    }


@given(st.text() | st.just("\ud800") | st.sampled_from(["", "ABC", "abc ", " abc", "abc\0", ABC, "Abcd"]))
def test_what_is_no_key_has_no_scope(presented: str) -> None:
    assert scope_of(KeyRing.parse(FILE), presented) == {"abc": Scope.READ, "abcd": Scope.ADMIN}.get(presented)


@pytest.mark.parametrize("presented", ["first", "middle", "last", "none of them"])
def test_every_entry_is_compared_whichever_key_is_presented(presented: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An early exit would tell by its time how far down the file a key stands."""
    names = ("first", "middle", "last")
    entries = [
        KeyEntry(name=name, scope=Scope.READ, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names
    ]
    ring, compared, compare = KeyRing(tuple(entries)), [], hmac.compare_digest

    def counted(one: str, other: str) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    found = ring.entry_of(presented)
    assert (found.name if found else None) == (presented if presented in names else None)
    digest = hashlib.sha256(presented.encode()).hexdigest()
    assert compared == [(digest, one.sha256) for one in entries]


BAD = {
    "nothing": ("", "holds no keys; add one with: udr keys new"),
    "comments alone": ("# none yet\n", "holds no keys"),
    "an empty list": ("keys = []", "holds no keys"),
    "no TOML": ("[[keys]\n", "is not TOML: .*line 1"),
    "another table": (entry() + "[server]\nport = 1\n", r"unknown 'server'; the file has only entries \[\[keys\]\]"),
    "a table for a list": (entry().replace("[[keys]]", "[keys]"), r"each below a line \[\[keys\]\]; found a dict"),
    "a list of texts": ('keys = ["abc"]', "entry 1 of .*must be a table; found a str"),
    "an unknown field": (entry() + 'owner = "me"\n', "entry 1 of .*unknown 'owner'; known are name, scope, sha256"),
    "the key in a field of its own": (entry() + 'key = "abc"\n', "unknown 'key'.*only its SHA-256"),
    "no name": (entry().replace('name = "page"\n', ""), "entry 1 of .*name must be text; found nothing"),
    "no scope": (entry().replace('scope = "read"\n', ""), "entry 1 of .*scope must be text; found nothing"),
    "no digest": ('[[keys]]\nname = "page"\nscope = "read"\n', "entry 1 of .*sha256 must be text; found nothing"),
    "a number for a name": (entry().replace('"page"', "3"), "name must be text; found a int"),
    "an empty name": (entry(name=""), "name must be 1 to 32 letters.*found ''"),
    "a name with a blank": (entry(name="my page"), "found 'my page'"),
    "a name with a newline": (entry(name=r"a\nb"), r"found 'a\\nb'"),
    "a long name": (entry(name="n" * 33), "found 33 characters"),
    "an unknown scope": (
        entry() + entry("b", "write", ABCD),
        "entry 2 of .*scope must be read or admin; found 'write'",
    ),
    "a scope in capitals": (entry(scope="READ"), "found 'READ'"),
    "a short digest": (entry(sha256=ABC[:-1]), "sha256 must be 64 hexadecimal digits; found 63 characters"),
    "a long digest": (entry(sha256=ABC + "0"), "found 65 characters"),
    "a digest of other digits": (entry(sha256="g" * 64), "sha256 must be 64 hexadecimal digits"),
    "a digest of Arabic digits": (entry(sha256="٣" * 64), "sha256 must be 64 hexadecimal digits"),
    "the digest of nothing": (entry(sha256=EMPTY), "sha256 is that of an empty text"),
    "one name twice": (entry() + entry("b", "read", EMPTY[::-1]) + entry(sha256=ABCD), "entries 1 and 3 .*same name"),
    "one key twice": (entry() + entry("b", "admin", ABC.upper()), "entries 1 and 2 of .*same sha256"),
    "a name twice in an entry": (entry() + 'name = "b"\n', "is not TOML"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_file_that_makes_no_sense_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message) as raised:
        KeyFile.read(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


PLAIN = {
    "as a digest": entry(sha256=SECRET),
    "as a name": entry(name=SECRET),
    "as a scope": entry(scope=SECRET),
    "in a field of its own": entry() + f'key = "{SECRET}"\n',
    "as a field": entry() + f'{SECRET} = "page"\n',
    "as a table, twice": f"[{SECRET}]\n[{SECRET}]\n",
    "in a comment": f"{entry()}# {SECRET}\n",
    "alone": f"{SECRET}\n",
    "in a list": f'keys = ["{SECRET}"]',
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_a_file_that_holds_a_key_is_refused_and_the_key_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match=r"line \d holds what seems to be a key; .*udr keys new") as raised:
        KeyRing.parse(text)
    assert f"line {text[: text.index(SECRET)].count(chr(10)) + 1} " in str(raised.value)
    assert not any(SECRET[4:] in told for told in chain(raised.value))


@pytest.mark.parametrize("place", ["name", "scope", "sha256"])
def test_a_key_of_somebody_else_s_is_not_shown_either(place: str) -> None:
    secret = "sk-" + "x1" * 20
    with pytest.raises(ConfigError, match="found 43 characters") as raised:
        KeyRing.parse(entry(**{place: secret}))
    assert not any(secret in told for told in chain(raised.value))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}/none: no such file; begin one with: udr keys new .* --file"):
        KeyFile.read(tmp_path / "none")
    with pytest.raises(ConfigError, match=f"{tmp_path}: Is a directory"):
        KeyFile.read(tmp_path)
    (tmp_path / "latin").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="latin: is not UTF-8: byte 5"):
        KeyFile.read(tmp_path / "latin")


def test_a_reload_takes_new_keys_and_drops_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry())
    keys = KeyFile(path)
    before = keys.ring
    path.write_text(entry("next", "admin", ABCD))
    assert scope_of(keys.ring, "abc") is Scope.READ, "nothing is read before it is asked for"
    assert keys.reload() is keys.ring
    assert (scope_of(keys.ring, "abc"), scope_of(keys.ring, "abcd")) == (None, Scope.ADMIN)
    assert scope_of(before, "abc") is Scope.READ, "whoever holds the old ring may go on with it"


@pytest.mark.parametrize("text", ["", "[[keys]", entry(scope="all"), None], ids=["empty", "no TOML", "bad", "gone"])
def test_a_reload_that_fails_keeps_the_old_keys(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry())
    keys = KeyFile(path)
    before = keys.ring
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.toml"):
        keys.reload()
    assert keys.ring is before


def test_a_new_key_is_long_different_each_time_and_opens_by_its_entry_alone() -> None:
    made = [new_key(f"n{number}", scope) for number, scope in enumerate([*Scope] * 4)]
    keys = [key for key, _ in made]
    assert len(set(keys)) == 8 and all(key.startswith("udr_") and len(key) == 47 for key in keys)
    text = "\n".join(entry.to_toml() for _, entry in made)
    ring = KeyRing.parse(text)
    assert ring.entries == tuple(entry for _, entry in made)
    assert [scope_of(ring, key) for key in keys] == [*Scope] * 4
    assert not any(key[4:] in text for key in keys)
    assert not any(entry.sha256 in repr(entry) for _, entry in made)


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a\n", "é", "x" * 33])
def test_a_new_key_has_a_name_that_a_log_can_show(name: str) -> None:
    with pytest.raises(ConfigError, match="name must be"):
        new_key(name, Scope.READ)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_append_begins_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    before = os.umask(0)
    try:
        append(path, new_key("first", Scope.READ)[1])
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert [one.name for one in KeyFile.read(path).entries] == ["first"]


def test_append_keeps_what_was_there_to_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(FILE, "utf-8")
    path.chmod(0o644)
    added = new_key("new", Scope.ADMIN)[1]
    append(path, added)
    assert path.read_text("utf-8") == f"{FILE}\n{added.to_toml()}"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


@pytest.mark.parametrize("text", [FILE, "[[keys]", entry(sha256=SECRET)], ids=["name taken", "no TOML", "plain key"])
def test_append_leaves_a_file_alone_that_it_cannot_add_to(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.toml: "):
        append(path, new_key("page", Scope.READ)[1])
    assert path.read_text() == text


def test_append_into_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none/keys\.toml: No such file or directory"):
        append(tmp_path / "none" / "keys.toml", new_key("page", Scope.READ)[1])


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ``udr`` with ``udr keys``, whatever else is installed."""
    entry_point = EntryPoint(name="keys", value="udr_service.auth.cli:app", group=GROUP)
    monkeypatch.setattr("udr.cli.app._commands", lambda: [entry_point])


@pytest.mark.usefixtures("command")
def test_the_command_prints_the_key_once_and_its_entry_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "--name", "page", "--scope", "admin"]) == 0
    out, err = capsys.readouterr()
    key = out.removesuffix("\n")
    assert scope_of(KeyRing.parse(err), key) is Scope.ADMIN
    assert key not in err and "\n" not in key


@pytest.mark.usefixtures("command")
def test_the_command_adds_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.toml"
    keys = []
    for name, scope in (("page", "read"), ("ops", "admin")):
        assert main(["keys", "new", "--name", name, "--scope", scope, "--file", str(path)]) == 0
        out, err = capsys.readouterr()
        keys.append(out.removesuffix("\n"))
        assert err == f"udr: {path}: added {name}, {scope}; running services take it at their next reload\n"
    ring = KeyFile.read(path)
    assert [scope_of(ring, key) for key in keys] == [Scope.READ, Scope.ADMIN]
    assert mode(path) == 0o600


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "page"], "Missing option '--scope'"),
        (["--name", "page", "--scope", "all"], "'all' is not one of"),
        (["--name", "a page", "--scope", "read"], "udr: error: name must be"),
    ],
)
def test_the_command_shows_no_key_where_it_fails(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "new", *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err


@pytest.mark.usefixtures("command")
def test_a_key_that_could_not_be_added_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(FILE)
    assert main(["keys", "new", "--name", "page", "--scope", "read", "--file", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"udr: error: {path}: entries 1 and 3 of [[keys]] have the same name" in err


def test_nothing_of_a_key_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key, made = new_key("page", Scope.READ)
    append(tmp_path / "keys.toml", made)
    assert scope_of(KeyFile(tmp_path / "keys.toml").ring, key) is Scope.READ
    assert caplog.text == ""
