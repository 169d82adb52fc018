"""Versions of an index: listed, published, compared and pruned; killed at any step, the index is whole and answers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

from tests.fakes import NOTES, QUESTIONS, REVIEWS, HashEncoder, write_collection, write_task
from tests.index.build.test_builder import REPOSITORY, tree
from tests.udr.store.test_version import rewrite_manifest
from udr.errors import ArtifactError, ConfigError, UdrError, VerificationError
from udr.retrieval import Retriever
from udr.store import Manifest, read_current, read_manifest, verify
from udr.types import Json
from udr_index.build import BuildConfig, build
from udr_index.versions import (
    Difference,
    Ids,
    RowsDiff,
    TaskDiff,
    diff_versions,
    find_version,
    list_versions,
    prune,
    publish,
)

POOLS = (5, 10, 15)


def write_history(root: Path, collection: Path) -> list[str]:
    """Build three versions, a day apart, and return their names, the oldest first; the newest is current."""
    names = [build(BuildConfig(tasks=collection, out=root, pool=pool), HashEncoder()).version for pool in POOLS]
    for day, name in enumerate(names, 1):
        os.utime(root / "versions" / name / "manifest.json", (86_400 * day, 86_400 * day))
    return names


@pytest.fixture(scope="module")
def original(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("versions") / "index"
    write_history(root, collection)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """An index of three versions. Copying keeps the times of the folders."""
    return Path(shutil.copytree(original, tmp_path / "index"))


@pytest.fixture
def names(root: Path) -> list[str]:
    """Their names, the oldest first."""
    return [info.name for info in reversed(list_versions(root))]


def answers(root: Path) -> bool:
    """Whether the index opens and answers."""
    with Retriever.open(root, encoder=HashEncoder()) as retriever:
        return len(retriever.retrieve(scope="all", input="a fine day", k=8)) == 8


def there(root: Path) -> set[str]:
    return {path.name for path in (root / "versions").iterdir()}


def used(root: Path) -> int:
    return sum(len(data) for data in tree(root).values())


def spoil(root: Path, name: str) -> None:
    path = root / "versions" / name / "demonstrations.sqlite"
    path.write_bytes(path.read_bytes()[:-1])


def test_versions_are_listed_the_newest_first(root: Path) -> None:
    infos = list_versions(root)

    assert [info.num_rows for info in infos] == [45, 30, 15]
    assert infos[0].sizes == {"notes": 15, "questions": 15, "reviews": 15}
    assert [info.name for info in infos if info.is_current] == [infos[0].name] == [read_current(root)]
    assert {info.encoder for info in infos} == {"fake-hash"}
    assert [info.changed_seconds for info in infos] == [86_400 * 3, 86_400 * 2, 86_400]
    assert all(info.size_bytes == used(root / "versions" / info.name) for info in infos)
    assert all(info.problem is None for info in infos)


def test_versions_of_one_time_are_listed_by_name(root: Path) -> None:
    for path in (root / "versions").iterdir():
        os.utime(path / "manifest.json", (1, 1))

    listed = [info.name for info in list_versions(root)]

    assert listed == sorted(listed)


def test_a_version_that_cannot_be_read_does_not_stop_the_list(root: Path, names: list[str]) -> None:
    manifest = root / "versions" / names[1] / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"fake-hash", b"fake-hush"))
    (root / "versions" / names[0] / "manifest.json").unlink()

    infos = {info.name: info for info in list_versions(root)}

    assert infos[names[2]].problem is None
    assert infos[names[1]].problem == "manifest.json: the manifest is altered: it does not fit its own checksum"
    assert str(infos[names[0]].problem).startswith("manifest.json: cannot be read (No such file or directory)")
    assert (infos[names[0]].encoder, infos[names[0]].num_rows) == (None, 0)


def test_a_version_that_a_prune_deletes_meanwhile_is_not_listed(
    root: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted_before_it_is_read(folder: Path) -> Manifest:
        if folder.name == names[0]:
            shutil.rmtree(folder)
        return read_manifest(folder)

    monkeypatch.setattr("udr_index.versions.catalog.read_manifest", deleted_before_it_is_read)

    assert [info.name for info in list_versions(root)] == [names[2], names[1]]


def test_what_has_no_version_s_name_is_neither_listed_nor_pruned(root: Path) -> None:
    (root / "versions" / "backup").mkdir()
    (root / "versions" / "0123456789abcdef").write_bytes(b"")

    assert len(list_versions(root)) == 3
    prune(root, 1)
    assert there(root) == {"backup", "0123456789abcdef", read_current(root)}


def test_publishing_an_older_version_rolls_back(root: Path, names: list[str]) -> None:
    before = tree(root / "versions")

    published = publish(root, names[0])

    assert (published.version, published.previous) == (names[0], names[2])
    assert [info.name for info in list_versions(root) if info.is_current] == [names[0]]
    with Retriever.open(root, encoder=HashEncoder()) as retriever:
        assert retriever.index_version == names[0]
    assert (tree(root / "versions"), verify(root)) == (before, [])
    assert publish(root, names[2]).previous == names[0]


def test_publishing_the_current_version_changes_nothing(root: Path, names: list[str]) -> None:
    before = (root / "CURRENT").stat()

    for name in (names[2], "CURRENT"):
        published = publish(root, name)
        assert published.version == published.previous == names[2]

    after = (root / "CURRENT").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("content", [b"", b"0123456789abcdef\n", None], ids=["altered", "naming none", "missing"])
def test_publishing_makes_current_good_again(root: Path, names: list[str], content: bytes | None) -> None:
    (root / "CURRENT").unlink()
    if content is not None:
        (root / "CURRENT").write_bytes(content)
    assert not any(info.is_current for info in list_versions(root))

    published = publish(root, names[1])

    assert (published.version, published.previous) == (names[1], None)
    assert verify(root) == [] and answers(root)


def test_a_damaged_version_is_not_published(root: Path, names: list[str]) -> None:
    spoil(root, names[0])

    with pytest.raises(VerificationError, match=r"damaged and was not published: demonstrations.sqlite: is truncated"):
        publish(root, names[0])
    assert read_current(root) == names[2]


def test_a_version_that_no_reader_could_open_is_not_published(root: Path, names: list[str]) -> None:
    rewrite_manifest(root, wording="0123456789abcdef")

    with pytest.raises(ArtifactError, match=r"was not published, it was built with wording 0123456789abcdef and this"):
        publish(root, names[2])


def test_a_version_goes_by_the_beginning_of_its_name(root: Path, names: list[str]) -> None:
    for name in names:
        # Long enough for no two of them to share it.
        assert find_version(root, name) == find_version(root, name[:12]) == name
    assert find_version(root, "CURRENT") == names[2]


def test_a_version_that_is_not_meant_by_just_one_name_is_refused(root: Path, names: list[str]) -> None:
    (root / "versions" / f"{names[0][:15]}{'0' if names[0][15] != '0' else '1'}").mkdir()

    with pytest.raises(ArtifactError, match=rf"'{names[0][:15]}' begins the names of {names[0][:15]}., .*write more"):
        find_version(root, names[0][:15])
    for unknown in ("nope", "", "current", names[1].upper() + "x"):
        with pytest.raises(ArtifactError, match=rf"no version '{unknown}'; there are: .*{names[1]}"):
            find_version(root, unknown)


COMMANDS: Mapping[str, Callable[[Path], object]] = {
    "list": list_versions,
    "publish": lambda root: publish(root, "CURRENT"),
    "diff": lambda root: diff_versions(root, "00", "01"),
    "prune": lambda root: prune(root, 1),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_where_no_index_is_none_is_made(tmp_path: Path, command: str) -> None:
    with pytest.raises(ArtifactError, match=r"none: no index here, there is no folder versions; run: udr index build"):
        COMMANDS[command](tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "command",
    [COMMANDS["publish"], COMMANDS["prune"], lambda root: prune(root, 1, dry_run=True)],
    ids=["publish", "prune", "dry run"],
)
def test_publish_and_prune_do_not_meet_a_build(root: Path, command: Callable[[Path], object]) -> None:
    before = tree(root)

    with FileLock(root / ".lock"), pytest.raises(ArtifactError, match=r"another build is at work here, or a publish"):
        command(root)
    assert tree(root) == before


def test_list_and_diff_wait_for_nobody(root: Path, names: list[str]) -> None:
    with FileLock(root / ".lock"):
        assert len(list_versions(root)) == 3
        assert diff_versions(root, names[0], names[1]).old == names[0]


NONE = Ids(0, ())


def rows(**ids: str) -> RowsDiff:
    """What became of rows: the ids of each kind, separated by blanks."""
    found = {kind: Ids(len(text.split()), tuple(text.split())) for kind, text in ids.items()}
    return RowsDiff(**{"added": NONE, "changed": NONE, "removed": NONE, **found})


def written(root: Path, task: Mapping[str, Json], texts: Mapping[str, str]) -> None:
    train: list[Mapping[str, Json]] = [
        {"id": id, "input": {"text": text, "thing": "lamp"}, "target": "glad"} for id, text in texts.items()
    ]
    write_task(root, task, train=train)


def test_diff_names_rows_tasks_and_settings(tmp_path: Path) -> None:
    tips = {**NOTES, "name": "tips"}
    old_tasks, new_tasks, out = tmp_path / "old", tmp_path / "new", tmp_path / "index"
    written(old_tasks, NOTES, {"1": "one", "2": "two", "3": "three", "4": "four"})
    written(old_tasks, REVIEWS, {"1": "one", "2": "two"})
    (old_tasks / "mood" / "family.toml").write_text('instruction = "Give the mood."\n', "utf-8")
    written(new_tasks, {**NOTES, "labels": ["sad", "glad"]}, {"0": "no", "1": "one", "2": "TWO", "4": "four"})
    written(new_tasks, tips, {"9": "nine"})
    (new_tasks / "mood" / "family.toml").write_text('instruction = "Tell the mood."\n', "utf-8")
    old = build(BuildConfig(tasks=old_tasks, out=out), HashEncoder()).version
    new = build(BuildConfig(tasks=new_tasks, out=out, dtype="float16"), HashEncoder(salt="other")).version

    found = diff_versions(out, old[:12], "CURRENT")

    assert (found.old, found.new, found.is_empty) == (old, new, False)
    assert found.tasks == {
        "notes": TaskDiff(definition="changed", rows=rows(added="0", changed="2", removed="3")),
        "reviews": TaskDiff(definition="removed", rows=rows(removed="1 2")),
        "tips": TaskDiff(definition="added", rows=rows(added="9")),
    }
    fingerprints = HashEncoder().fingerprint, HashEncoder(salt="other").fingerprint
    assert {one.path: (one.old, one.new) for one in found.differences} == {
        "dtype": ("float32", "float16"),
        "encoder.fingerprint": fingerprints,
        "families.mood": ("Give the mood.", "Tell the mood."),
        "tasks.notes.task.labels": (["glad", "sad"], ["sad", "glad"]),
    }
    # The other way round, all is the other way round.
    back = diff_versions(out, new, old)
    assert back.tasks["notes"].rows == rows(added="3", changed="2", removed="0")
    assert back.tasks["tips"] == TaskDiff(definition="removed", rows=rows(removed="9"))
    assert [(one.path, one.new, one.old) for one in back.differences] == [
        (one.path, one.old, one.new) for one in found.differences
    ]


def test_diff_tells_of_a_family_that_only_one_version_has(tmp_path: Path) -> None:
    root = write_collection(tmp_path / "tasks")
    old = build(BuildConfig(tasks=root, out=tmp_path / "index"), HashEncoder()).version
    new = build(BuildConfig(tasks=root, out=tmp_path / "index", names=("questions",)), HashEncoder()).version

    (one,) = diff_versions(tmp_path / "index", old, new).differences

    assert one == Difference(path="families.mood", old="Give the mood of the text.", new=None)


def test_diff_tells_of_another_wording(root: Path, names: list[str]) -> None:
    rewrite_manifest(root, wording="0123456789abcdef")

    (one,) = diff_versions(root, names[0], "CURRENT").differences

    assert (one.path, one.new) == ("wording", "0123456789abcdef")


def test_diff_of_a_version_and_itself_is_empty(root: Path) -> None:
    found = diff_versions(root, "CURRENT", "CURRENT")

    assert found.is_empty
    assert found.tasks["notes"] == TaskDiff(definition="same", rows=rows())


def test_diff_counts_all_rows_and_names_the_first(root: Path, names: list[str]) -> None:
    found = diff_versions(root, names[0], names[2], limit=3)

    whole = diff_versions(root, names[0], names[2])
    for name, task in found.tasks.items():
        # A pool of 5 by seed is part of one of 15.
        assert (task.rows.added.count, len(task.rows.added.first)) == (10, 3)
        assert whole.tasks[name].rows.added.first[:3] == task.rows.added.first
        assert len(whole.tasks[name].rows.added.first) == 10
        assert task.rows.removed.count == task.rows.changed.count == 0


@pytest.mark.parametrize(
    ("file", "message"),
    [("manifest.json", "the manifest is altered"), ("demonstrations.sqlite", "cannot be compared")],
)
def test_diff_refuses_what_it_cannot_read(root: Path, names: list[str], file: str, message: str) -> None:
    (root / "versions" / names[0] / file).write_bytes(b"other")

    for pair in ((names[0], names[1]), (names[1], names[0])):
        with pytest.raises(ArtifactError, match=message):
            diff_versions(root, *pair)


def leave(root: Path, version: str) -> list[str]:
    """Leave what killed builds and a killed prune leave, and return the names in the order of the alphabet."""
    folders = [f".building-{version}", f".building-{version}-reuse-{version}", f".pruned-{version}"]
    for name in folders:
        (root / name / "partitions" / "notes" / "shards").mkdir(parents=True)
        for number in range(2):
            (root / name / "partitions" / "notes" / "shards" / f"{number:06}.npy").write_bytes(b"shard")
    files = [".CURRENT.tmp", ".rows.sqlite.tmp", ".rows.sqlite.tmp.incoming"]
    for name in files:
        (root / name).write_bytes(b"half")
    assert verify(root) == []
    return sorted([*folders, *files])


def test_prune_keeps_the_newest_and_tells_what_it_freed(root: Path, names: list[str]) -> None:
    before = used(root)

    pruned = prune(root, 2)

    assert [info.name for info in pruned.versions] == [names[0]]
    assert [info.name for info in pruned.kept] == [names[2], names[1]]
    assert pruned.leftovers == ()
    assert before - used(root) == pruned.freed_bytes > 0
    assert there(root) == {names[1], names[2]}
    assert verify(root) == [] and answers(root)


def test_prune_never_deletes_the_current_version(root: Path, names: list[str]) -> None:
    publish(root, names[0])

    assert [info.name for info in prune(root, 2).versions] == [names[1]]
    assert [info.name for info in prune(root, 1).versions] == [names[2]]
    assert there(root) == {names[0]}
    assert answers(root)


def test_prune_keeps_all_where_there_are_no_more(root: Path) -> None:
    for keep in (3, 99):
        pruned = prune(root, keep)
        assert (pruned.versions, pruned.leftovers, pruned.freed_bytes, len(pruned.kept)) == ((), (), 0, 3)
    assert len(there(root)) == 3


def test_prune_keeps_no_unreadable_version_in_place_of_a_good_one(root: Path, names: list[str]) -> None:
    (root / "versions" / names[1] / "manifest.json").unlink()
    os.utime(root / "versions" / names[1], (86_400 * 9, 86_400 * 9))

    pruned = prune(root, 2)

    assert [info.name for info in pruned.versions] == [names[1]]
    assert there(root) == {names[0], names[2]}
    assert verify(root) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_prune_deletes_no_version_while_the_current_one_is_damaged(root: Path, names: list[str], dry_run: bool) -> None:
    spoil(root, names[2])

    with pytest.raises(VerificationError, match=r"is current and damaged, so nothing was deleted: demo.*publish anoth"):
        prune(root, 1, dry_run=dry_run)
    assert there(root) == set(names)
    publish(root, names[0])
    assert [info.name for info in prune(root, 2, dry_run=dry_run).versions] == [names[1]]


def test_prune_deletes_what_killed_commands_left(root: Path, names: list[str]) -> None:
    # All for a version that goes as well, so that one name is wanted for all of them.
    left, before = leave(root, names[0]), used(root)

    pruned = prune(root, 2)

    assert list(pruned.leftovers) == left
    assert [info.name for info in pruned.versions] == [names[0]]
    assert before - used(root) == pruned.freed_bytes
    assert {path.name for path in root.iterdir()} - {".lock"} == {"CURRENT", "versions"}
    assert there(root) == {names[1], names[2]}


def test_a_dry_run_tells_the_same_and_deletes_nothing(root: Path, names: list[str]) -> None:
    leave(root, names[0])
    before = tree(root)

    told = prune(root, 1, dry_run=True)

    assert tree(root) == before
    assert prune(root, 1) == told


def test_prune_of_a_link_leaves_what_it_leads_to(root: Path, names: list[str], tmp_path: Path) -> None:
    elsewhere = shutil.move(root / "versions" / names[0], tmp_path / names[0])
    (root / "versions" / names[0]).symlink_to(elsewhere)
    before = tree(Path(elsewhere))

    pruned = prune(root, 2)

    assert [info.name for info in pruned.versions] == [names[0]]
    assert pruned.freed_bytes < 200
    assert there(root) == {names[1], names[2]}
    assert tree(Path(elsewhere)) == before


REFUSED: Mapping[str, tuple[int, Callable[[Path], object], type[UdrError], str]] = {
    "none is kept": (0, lambda root: None, ConfigError, "at least 1 version must be kept, found 0"),
    "less than none": (-1, lambda root: None, ConfigError, "at least 1 version must be kept, found -1"),
    "CURRENT missing": (1, lambda root: (root / "CURRENT").unlink(), ArtifactError, "there is no CURRENT file"),
    "CURRENT altered": (1, lambda root: (root / "CURRENT").write_bytes(b"x"), VerificationError, "CURRENT: is altered"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_prune_refuses_and_deletes_nothing(root: Path, name: str) -> None:
    keep, change, kind, message = REFUSED[name]
    change(root)

    with pytest.raises(kind, match=message):
        prune(root, keep)
    assert len(there(root)) == 3


def test_a_reader_of_a_deleted_version_goes_on(root: Path, names: list[str]) -> None:
    with Retriever.open(root, encoder=HashEncoder()) as retriever:
        before = retriever.retrieve("notes", "a fine day", 5)
        publish(root, names[0])
        prune(root, 1)
        assert there(root) == {names[0]}

        assert retriever.retrieve("notes", "a fine day", 5) == before
        assert retriever.retrieve("questions", "Where is the lake?", 5).index_version == names[2]


KILLED = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from udr_index.versions import prune, publish

original, out, command, version = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
run = {"publish": lambda root: publish(root, version), "prune": lambda root: prune(root, 1)}[command]

def kill_before(step):
    steps = itertools.count(1)
    def counted(call):
        def step_of_it(*arguments, **keywords):
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)
        return step_of_it
    for name in ("replace", "rename", "unlink", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))

for step in itertools.count(1):
    root = Path(shutil.copytree(original, out / f"{step:03}"))
    child = os.fork()
    if not child:
        kill_before(step)
        run(root)
        os._exit(0)
    left = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if left == 0:
        break
    assert left == -signal.SIGKILL, left
"""


def killed_at_every_step(original: Path, out: Path, command: str, version: str) -> list[Path]:
    """Run a command until all is done, again and again from the same index, each time killed one step later.

    Returns:
        What each left, in that order; the last was not killed.
    """
    paths = [str(REPOSITORY / part) for part in (".", "index")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    arguments = [str(original), str(out), command, version]
    out.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, *arguments], check=True, env=environment, cwd=out)
    return sorted(out.iterdir())


def test_publish_killed_at_any_step_leaves_the_old_version_or_the_new(
    root: Path, names: list[str], tmp_path: Path
) -> None:
    left = killed_at_every_step(root, tmp_path / "left", "publish", names[0])

    assert len(left) >= 4
    current = [read_current(one) for one in left]
    # From some step on it is the new one.
    assert current == sorted(current, key=[names[2], names[0]].index)
    assert set(current) == {names[0], names[2]}
    for one in left:
        assert verify(one) == [] and answers(one)
        publish(one, names[0])
        assert read_current(one) == names[0]
        assert verify(one) == []


def test_prune_killed_at_any_step_leaves_whole_versions_and_the_next_finishes(
    root: Path, names: list[str], tmp_path: Path
) -> None:
    publish(root, names[1])
    leave(root, names[0])
    whole = tree(root)

    left = killed_at_every_step(root, tmp_path / "left", "prune", "")

    assert len(left) >= 40
    for one in left:
        assert read_current(one) == names[1]
        assert verify(one) == [] and answers(one)
        # Neither a version nor a build that the next one would go on with is there in part.
        for folder in (*one.glob("versions/*"), *one.glob(".building-*")):
            name = folder.relative_to(one).as_posix()
            there_before = {path: data for path, data in whole.items() if path.startswith(f"{name}/")}
            assert {f"{name}/{path}": data for path, data in tree(folder).items()} == there_before
        prune(one, 1)
        assert there(one) == {names[1]}
        assert {path.name for path in one.iterdir()} - {".lock"} == {"CURRENT", "versions"}
        assert verify(one) == []


def test_what_prune_deleted_can_be_built_again(root: Path, names: list[str], collection: Path) -> None:
    before = tree(root / "versions" / names[0])
    prune(root, 1)

    built = build(BuildConfig(tasks=collection, out=root, pool=POOLS[0]), HashEncoder())

    assert built.version == names[0]
    assert tree(built.path) == before


def test_a_task_of_one_version_only_is_no_difference_of_settings(tmp_path: Path) -> None:
    root = tmp_path / "tasks"
    write_collection(root)
    old = build(BuildConfig(tasks=root, out=tmp_path / "index", names=("notes", "reviews")), HashEncoder()).version
    new = build(BuildConfig(tasks=root, out=tmp_path / "index", names=("notes",)), HashEncoder()).version

    found = diff_versions(tmp_path / "index", old, new)

    assert found.differences == ()
    assert not found.is_empty
    assert found.tasks["reviews"].definition == "removed"
    assert QUESTIONS["name"] not in found.tasks
