"""``udr serve``: every option, and every variable of its name, arrives as the setting that it names."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.options import CalledError, Changes, Recorder, assert_each_arrives, flat
from udr.cli import main

TLS = {"tls_cert": Path("cert.pem"), "tls_key": Path("key.pem")}
RAY = {"runner": "ray"}
ALONE: Changes = {
    "host": ("--host 0.0.0.0", {"host": "0.0.0.0"}),
    "port": ("--port 9", {"port": 9}),
    "device": ("--device cuda", {"device": "cuda"}),
    "engine": ("--engine torch", {"engine": "torch"}),
    "tokenizer": ("--tokenizer a", {"tokenizer": ("a",)}),
    "allow_hub": ("--allow-hub", {"allow_hub": True}),
    "keys": ("--keys keys.json", {"keys": Path("keys.json")}),
    "insecure_no_keys": ("--insecure-no-keys", {"insecure_no_keys": True}),
    "upstream": ("--upstream http://127.0.0.1:9/v1", {"upstream": "http://127.0.0.1:9/v1"}),
    "watch_seconds": ("--watch-seconds 2", {"watch_seconds": 2.0}),
    "workers": ("--workers 3", {"workers": 3}),
    "runner": ("--runner ray", RAY),
    "durability": ("--durability system", {"durability": "system"}),
    "compact_rows": ("--compact-rows 7", {"compact_rows": 7}),
    "mirror": ("--mirror s3://bucket/index", {"mirror": "s3://bucket/index"}),
    "usage": ("--usage off", {"usage": "off"}),
    "root_path": ("--root-path /udr", {"root_path": "/udr"}),
    "trusted_proxies": ("--trusted-proxies 10.0.0.0/8", {"trusted_proxies": (ip_network("10.0.0.0/8"),)}),
    "keep_alive_seconds": ("--keep-alive-seconds 80", {"keep_alive_seconds": 80.0}),
    "linger_seconds": ("--linger-seconds 4", {"linger_seconds": 4.0}),
    "drain_seconds": ("--drain-seconds 5", {"drain_seconds": 5}),
    "log_level": ("--log-level debug", {"log_level": "debug"}),
    "log_format": ("--log-format text", {"log_format": "text"}),
}
TOGETHER: Changes = {
    "tls_cert": ("--tls-cert cert.pem --tls-key key.pem", TLS),
    "tls_key": ("--tls-key key.pem --tls-cert cert.pem", TLS),
    "upstream_timeout_seconds": (
        "--upstream http://127.0.0.1:9/v1 --upstream-timeout-seconds 6",
        {"upstream": "http://127.0.0.1:9/v1", "upstream_timeout_seconds": 6.0},
    ),
    "replicas": ("--runner ray --replicas 2", {**RAY, "replicas": 2}),
    "max_replicas": ("--runner ray --max-replicas 2", {**RAY, "max_replicas": 2}),
    "gpus_per_replica": ("--runner ray --gpus-per-replica 0.5", {**RAY, "gpus_per_replica": 0.5}),
    "ray_address": ("--runner ray --ray-address head:6379", {**RAY, "ray_address": "head:6379"}),
}


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prepares its process, which here is that of other tests."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr("gc.disable", lambda: None)
    monkeypatch.setattr("faulthandler.enable", lambda _: None)


def served(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()

    def run(_: Path, settings: Any) -> None:
        recorder(**settings.model_dump())

    monkeypatch.setattr("udr_service.server.run", run)
    return recorder


def test_options_of_serve_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_each_arrives("serve", ("index",), lambda: served(monkeypatch), ALONE | TOGETHER)


@pytest.mark.parametrize("name", ALONE)
def test_a_variable_sets_what_its_option_sets(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    words, expected = ALONE[name]
    given = []
    for value in (None, words.partition(" ")[2] or "1"):
        if value is not None:
            monkeypatch.setenv(f"UDR_{name.upper()}", value)
        recorder = served(monkeypatch)
        with pytest.raises(CalledError):
            main(["serve", "index"])
        given.append(flat(recorder.last))
    assert {key: value for key, value in given[1].items() if value != given[0][key]} == expected
