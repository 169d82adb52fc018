"""No dependency phones home: commands run under a recorder of look-ups and connections, and only loopback appears."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.fakes import write_task
from tests.test_end_to_end import TASK, rows
from tests.tiny_models import save_encoder, save_lm

# Python's own calls; compiled code is seen by strace alone.
HOOK = """
import os, sys
EVENTS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect", "socket.sendto"}

def record(event, arguments):
    if event in EVENTS:
        target = arguments[0] if event.startswith("socket.get") else arguments[1]
        host = target[0] if isinstance(target, tuple) else target
        # A path names a socket of this machine.
        if host and not str(host).startswith("/"):
            with open(os.environ["LOOK_UPS"], "a") as file:
                file.write(f"{host.decode() if isinstance(host, bytes) else host}\\n")

sys.addaudithook(record)
"""

# Everything in one process, which takes seconds to start.
COMMANDS = """
import importlib.util, os, signal, socket, sys, threading, time
from udr.cli import main
from udr import Client

sizes = "--iterations 1 --epochs 1 --batch-size 4 --candidates 6"
assert main(f"train tasks --lm lm --model encoder --out run --device cpu {sizes}".split()) == 0
assert main("index build tasks --model run/model --out index --device cpu".split()) == 0
assert main("index verify index".split()) == 0
assert main("retrieve index --task fruit_or_tool --k 3 --device cpu mango".split()) == 0
if importlib.util.find_spec("openvino"):
    assert main("index bench index --engines --queries 4".split()) == 0
for package, adapter in {"langchain_core": "langchain", "dspy": "dspy"}.items():
    if importlib.util.find_spec(package):
        importlib.import_module(f"udr.integrations.{adapter}")
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]

def ask():
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=60) as client:
            while not client.ready():
                time.sleep(0.1)
            client.retrieve("fruit_or_tool", "the mango", k=3)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=ask).start()
sys.exit(main(f"serve index --port {port} --device cpu --engine onnx".split()))
"""


@cache
def strace() -> str | None:
    """Return the path of strace, if this machine has it and lets it trace."""
    path = shutil.which("strace")
    works = path and subprocess.run([path, "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0
    return path if works else None


def looked_up(code: str, folder: Path, **environment: str) -> set[str]:
    """Run code in a new process in ``folder``, and return the hosts that it looked up, connected or sent to."""
    hook, names, trace = folder / "hook", folder / "look-ups", folder / "trace"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK, "utf-8")
    paths = os.pathsep.join([str(hook), *filter(None, sys.path)])
    # What could hide a call is removed.
    hidden = re.compile(r"(HF_|TRANSFORMERS_|ORT_|DO_NOT_TRACK|DISABLE_|XDG_|UDR_|LITELLM_)")
    variables = {name: value for name, value in os.environ.items() if not hidden.match(name)}
    variables |= {"PYTHONPATH": paths, "HOME": str(folder / "home"), "LOOK_UPS": str(names), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", code]
    if strace():
        calls = "trace=connect,sendto,sendmsg,sendmmsg"
        command = [
            str(strace()),
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-e",
            calls,
            "-e",
            "signal=none",
            "-o",
            str(trace),
            *command,
        ]
    result = subprocess.run(
        command, cwd=folder, env=variables | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    hosts = set(names.read_text("utf-8").split()) if names.is_file() else set[str]()
    if trace.is_file():
        hosts |= addresses(trace.read_text("utf-8", errors="replace"))
    return {host for host in hosts if not is_loopback(host)}


def addresses(trace: str) -> set[str]:
    """Return the internet addresses in strace's lines; ``name server`` for port 53, which only look-ups use."""
    found = re.findall(r'sin6?_port=htons\((\d+)\).*?"([0-9a-f.:]+)"', trace)
    return {"name server" if port == "53" else address for port, address in found}


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def test_the_recorder_sees_look_ups_of_python(tmp_path: Path) -> None:
    resolve = "try: socket.getaddrinfo('udr.invalid', 443)\nexcept OSError: pass"
    (tmp_path / "python").mkdir()
    assert "udr.invalid" in looked_up(f"import socket\n{resolve}", tmp_path / "python")


def test_the_recorder_sees_look_ups_of_compiled_code(tmp_path: Path) -> None:
    if not strace():
        pytest.skip("needs strace: without it, the next test sees no look-ups of compiled code")
    (tmp_path / "c").mkdir()
    code = "import ctypes; ctypes.CDLL(None).getaddrinfo(b'udr.invalid', b'443', None, ctypes.byref(ctypes.c_void_p()))"
    assert "name server" in looked_up(code, tmp_path / "c")


def test_training_building_serving_and_retrieving_look_nothing_up(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", TASK, train=rows("train", slice(4)), test=rows("test", slice(4, 5)))
    save_lm(tmp_path / "lm")
    save_encoder(tmp_path / "encoder")
    assert looked_up(COMMANDS, tmp_path) == set()
    # onnxruntime writes an id of the machine here, unless it is told not to.
    assert not (tmp_path / "home/.cache/Microsoft").exists()
