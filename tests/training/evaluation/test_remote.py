"""Evaluations, runs and indexes on stores: fsspec's memory and files, and moto's S3."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.training.conftest import Machine, Udr, assert_refused
from udr.errors import ArtifactError
from udr.files import RemoteFolder
from udr.models import fingerprint
from udr_index.build import BuildConfig, build
from udr_index.versions import upload
from udr_training.evaluation import EvaluationConfig, model_of, run_of, short_names
from udr_training.feedback.local import CausalLM
from udr_training.run_folder import CONTENTS, upload_copy, working_copy


@pytest.fixture
def evaluate(machine: Machine, udr: Udr, tasks: Path, lm_folder: Path) -> Udr:
    """Runs ``udr evaluate`` on a machine."""
    return lambda *options: udr("evaluate", tasks, "--lm", lm_folder, "--shots", 1, *options)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}"


def content(url: str) -> bytes:
    with fsspec.open(url) as stream:
        read: bytes = stream.read()
    return read


@pytest.fixture
def check(evaluate: Udr, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Check that an evaluation on a store resumes from what a lost machine had uploaded."""

    def check(url: str) -> None:
        options = ["--retrievers", "random,bm25", "--output"]
        assert evaluate(*options, tmp_path / "here")[0] == 0
        replace, likelihoods, uploads, asked = RemoteFolder.replace, CausalLM.likelihoods, list[str](), list[int]()

        def failing(self: RemoteFolder, name: str, content: bytes, seen: bytes | None) -> None:
            if len(uploads) == 4:
                raise ArtifactError(f"{self.url}: the store does not answer")
            uploads.append(name)
            replace(self, name, content, seen)

        def counting(self: CausalLM, prompts: Any, on_done: Any) -> Any:
            asked.append(len(prompts))
            return likelihoods(self, prompts, on_done)

        with monkeypatch.context() as patch:
            patch.setattr(RemoteFolder, "replace", failing)
            assert_refused(evaluate(*options, url), 1, "the store does not answer")
        machine("second")
        with monkeypatch.context() as patch:
            patch.setattr(CausalLM, "likelihoods", counting)
            patch.setattr(CausalLM, "generate", None)
            status, _, err = evaluate(*options, url)
        assert status == 0 and f"the report is {url}/report.html" in err
        # The first machine has uploaded the answers of both retrievers on two tasks of three.
        assert asked == [4, 4]
        files = json.loads(content(f"{url}/{CONTENTS}"))["files"]
        here = {str(path.relative_to(tmp_path / "here")) for path in (tmp_path / "here").rglob("*.*") if path.is_file()}
        assert files.keys() == here and all(stored[0] == name for name, stored in files.items())
        for name in here - {"report.html"}:
            assert content(f"{url}/{name}") == (tmp_path / "here" / name).read_bytes()
        machine("third")
        monkeypatch.setattr(CausalLM, "likelihoods", None)
        assert evaluate(*options, url)[0] == 0
        message = f"{url} contains another evaluation (seed = 0 here, 1 requested"
        assert_refused(evaluate(*options, url, "--seed", 1), 2, message)
        assert_refused(
            evaluate(*options, f"{url}/more"), 1, f"{url}/more: lies in the folder of {url}, which has a RUN"
        )

    return check


@pytest.mark.parametrize("place", ["memory://{name}/results", "file://{path}/mount/results"])
def test_an_evaluation_goes_on_where_another_machine_was_lost(
    check: Callable[[str], None], tmp_path: Path, place: str
) -> None:
    check(place.format(name=tmp_path.name, path=tmp_path))


@pytest.mark.slow
def test_an_evaluation_goes_on_from_s3(check: Callable[[str], None], bucket: str) -> None:
    check(f"{bucket}/some/results")


def put_run(run: Path, url: str) -> None:
    """Upload a complete run."""
    copy = working_copy(Path(url))
    shutil.copytree(run, copy, dirs_exist_ok=True)
    upload_copy(copy)


def test_runs_and_indexes_at_urls_are_those_here(
    machine: Machine, evaluate: Udr, tasks: Path, trained_run: Path, tmp_path: Path, store: str
) -> None:
    put_run(trained_run, f"{store}/runs/mine")
    index = tmp_path / "index"
    model = str(trained_run / "model")
    build(BuildConfig(tasks=tasks, out=index, model=model, bm25=False, names=("reviews",), export=False))
    upload(index, "CURRENT", f"{store}/index")
    machine("second")
    sources = {trained_run: f"{store}/runs/mine", index: f"{store}/index"}
    sources[trained_run / "iteration-0" / "model"] = f"{store}/runs/mine/iteration-0/model"
    urls = [f"{url}?diversity=0.5&order=nearest_first" for url in sources.values()]
    here = [f"{path}?diversity=0.5&order=nearest_first" for path in sources]
    names = [name.partition("?")[0] for name in short_names(urls).values()]
    assert names == ["mine", "index", "mine/iteration-0"]
    assert EvaluationConfig(retrievers=tuple(urls)).parsed[0].options == {"diversity": 0.5}
    status, out, err = evaluate("--tasks", "reviews", "--limit", 2, "--json", "--retrievers", ",".join([*here, *urls]))
    assert status == 0, err
    report = json.loads(out)
    identities = report["config"]["retrievers"]
    assert [identities[name] for name in urls] == [identities[name] for name in here]
    values = {mean["retriever"]: mean["mean"] for mean in report["means"]}
    assert [values[name] for name in urls] == [values[name] for name in here]


def test_a_name_at_a_url_is_that_of_a_verified_copy(
    machine: Machine, evaluate: Udr, trained_run: Path, encoder_folder: Path, tmp_path: Path, store: str
) -> None:
    put_run(trained_run, f"{store}/run")
    machine("second")
    for name, model in (("run", "model"), ("run/model", "model"), ("run/iteration-0/model", "iteration-0/model")):
        assert fingerprint(Path(model_of(f"{store}/{name}?mode=dense"))) == fingerprint(trained_run / model)
        assert run_of(f"{store}/{name}") == working_copy(Path(f"{store}/run"))
    # An encoder alone is copied by its own rules.
    fsspec.filesystem("memory").put(str(encoder_folder), f"/{tmp_path.name}/encoder", recursive=True)
    assert model_of(f"{store}/encoder") == f"{store}/encoder" and run_of(f"{store}/encoder") is None
    with fsspec.open(f"{store}/run/model/model.safetensors", "wb") as stream:
        stream.write(b"other")
    unfinished = working_copy(Path(f"{store}/unfinished"))
    (unfinished / "config.toml").write_text("")
    upload_copy(unfinished)
    machine("third")
    for name, status, message in (
        ("run", 3, f"{store}/run/model/model.safetensors: is damaged"),
        ("unfinished", 2, f"{store}/unfinished is an unfinished run; resume it with the `udr train` command"),
        ("nothing", 1, f"{store}/nothing: no such folder"),
    ):
        assert_refused(evaluate("--retrievers", f"{store}/{name}"), status, message)
