"""``udr serve`` as it is run: a process, a port, a real encoder, and signals."""

import itertools
import json
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest

from tests.service.process import serving
from udr.client import Client
from udr.errors import ConfigError, UdrError, VerificationError
from udr.retrieval import Retriever
from udr_service import ListenError, Settings, listening, run


def test_serve_answers_until_it_is_told_to_end(tiny: Path) -> None:
    with serving(str(tiny)) as (process, address):
        with Client(address) as client, Retriever.open(tiny, device="cpu") as retriever:
            assert client.ready()
            assert httpx2.get(f"{address}/v1/info", timeout=30).json()["engine"] == "torch"
            query = {"thing": "chair", "text": 'fine "{thing}" 🙂 <s> [SEP]\n\t\\'}
            retrieval = client.retrieve("reviews", query, 4)
            assert retrieval == retriever.retrieve("reviews", query, 4)
            prompt = client.prompt("reviews", query, k=4, budget=1000)
            assert prompt.text is not None and prompt.text.endswith(f"\nReview: {query['text']}\nMood:")
            # The encoder's tokenizer counts bytes, and a BOS before them; the <s> in the data is one token to it.
            assert prompt.tokens == len(prompt.text.replace("<s>", "s").encode()) + 1
        # More than any buffer of the kernel holds: the answer must arrive although the body is not read.
        large = json.dumps({"task": "notes", "input": "a" * 20_000_000}).encode()
        answer = httpx2.post(f"{address}/v1/retrieve", content=large, headers={"Content-Type": "application/json"})
        assert answer.json()["type"] == "urn:udr:problem:body-too-large"
        assert answer.headers.get("Server") is None
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


def test_ctrl_c_is_a_normal_end(tiny: Path) -> None:
    with serving(str(tiny)) as (process, _):
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


def test_no_accepted_request_is_lost_at_the_end(tiny: Path) -> None:
    """Clients that ask all the while get an answer to each request, or find no service; none breaks off in between."""
    answered, lost = list[int](), list[Exception]()
    ending = threading.Event()

    def ask(address: str, number: int) -> None:
        with httpx2.Client(base_url=address, timeout=30) as client:
            for turn in itertools.count():
                body = {"task": "notes", "input": f"{number} {turn}", "k": 2}
                try:
                    answered.append(client.post("/v1/retrieve", json=body).status_code)
                except httpx2.ConnectError:
                    return
                except Exception as error:
                    lost.append(error)
                    return
                if turn == 3:
                    ending.wait(30)

    with serving(str(tiny), environment={"UDR_LINGER_SECONDS": "1"}) as (process, address):
        threads = [threading.Thread(target=ask, args=(address, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        while len(answered) < 32:
            time.sleep(0.01)
        ending.set()
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors, lost) == (0, "", [])
    assert len(answered) > 32 and set(answered) == {200}


def test_before_the_end_it_is_not_ready_and_still_answers(tiny: Path) -> None:
    with serving(str(tiny), environment={"UDR_LINGER_SECONDS": "30"}) as (process, address):
        with httpx2.Client(base_url=address) as client:
            process.send_signal(signal.SIGTERM)
            while client.get("/readyz").status_code == 200:
                time.sleep(0.01)
            ready = client.get("/readyz")
            assert (ready.status_code, ready.headers["Connection"]) == (503, "close")
            assert client.post("/v1/retrieve", json={"scope": "all", "input": "x", "k": 1}).status_code == 200
            assert client.get("/livez").status_code == 200
        # Told twice, it does not wait.
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_an_address_for_all_needs_keys_or_the_user_s_word(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no keys are given"):
        run(tmp_path, Settings(host="0.0.0.0", port=0))
    with pytest.raises(UdrError, match="no index here"):
        run(tmp_path, Settings(host="0.0.0.0", port=0, insecure_no_keys=True))


def test_an_index_whose_encoder_is_gone_ends_the_service(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "index")
    (weights,) = copy.glob("versions/*/model/model.safetensors")
    weights.write_bytes(b"x" * weights.stat().st_size)
    with pytest.raises(VerificationError, match=r"model\.safetensors"):
        run(copy, Settings(port=0, engine="torch", device="cpu"))


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ListenError, match=f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose"
        ):
            run(tmp_path / "no index", Settings(port=port))


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1, port 0"), listening("192.0.2.1", 0):
        pass


def test_answers_do_not_wait_for_a_delayed_acknowledgement() -> None:
    """Without this, each answer over an open connection took 44 ms; with it, /livez takes less than one."""
    with listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_folder_without_an_index_is_told(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UdrError, match="no index here"):
        run(tmp_path, Settings(port=0))
    assert signal.getsignal(signal.SIGTERM) is before
