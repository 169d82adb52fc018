"""The quick start: index the example tasks, serve them, and request demonstrations and a prompt.

``make demo`` runs it. Prints the two answers as JSON lines, and the service's address.
"""

import argparse
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

from udr import Client
from udr.models import DEFAULT_ENCODER

HERE = Path(__file__).parent
INDEX = HERE.parent / "demo-index"
REQUEST = "turn the bedroom lamp on, please"


def main() -> int:
    parser = argparse.ArgumentParser(description="Index the example tasks, serve them, and query the service twice.")
    parser.add_argument("--port", default="0", help="the port; 0 picks a free one")
    parser.add_argument("--once", action="store_true", help="exit after the two answers")
    arguments = parser.parse_args()

    udr = str(Path(sys.executable).with_name("udr"))
    build = [udr, "index", "build", str(HERE / "tasks"), "--model", DEFAULT_ENCODER, "--out", str(INDEX)]
    # stdout holds only the two answers and the address.
    if subprocess.run(build, stdout=sys.stderr).returncode:
        return 1
    serve = [udr, "serve", str(INDEX), "--host", "127.0.0.1", "--port", arguments.port]
    service = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True)
    try:
        address = _address(service)
        if address is None:
            return 1
        # Otherwise the service's pipe would fill up.
        threading.Thread(target=_forward_log, args=(service,), daemon=True).start()
        with Client(address, timeout=60) as client:
            retrieval = client.retrieve("home_assistant", REQUEST, k=3)
            prompt = client.prompt("home_assistant", {"request": REQUEST}, k=8, budget=160, reserve=8)
        print(json.dumps(retrieval.to_json(), ensure_ascii=False))
        print(json.dumps(prompt.to_json(), ensure_ascii=False))
        print(address, flush=True)
        if not arguments.once:
            print("udr: serving until Ctrl-C", file=sys.stderr)
            service.wait()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        service.send_signal(signal.SIGINT)
        service.wait()
    return 0


def _address(service: "subprocess.Popen[str]") -> str | None:
    """Return the address that the service logs once it is ready, or None if it exits first."""
    for line in service.stderr or ():
        print(line, end="", file=sys.stderr)
        if " at http://" in line:
            return line.rpartition(" at ")[2].strip()
    return None


def _forward_log(service: "subprocess.Popen[str]") -> None:
    for line in service.stderr or ():
        print(line, end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
