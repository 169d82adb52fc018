"""Settings: flags, then environment, then defaults; invalid values are named in one line."""

import pytest

from udr.errors import ConfigError
from udr_service import Settings


def test_flags_take_precedence_over_environment_and_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDR_PORT", "9000")
    monkeypatch.setenv("UDR_MAX_K", "5")
    settings = Settings.read(host="::1", port=9001, device=None)
    assert (settings.host, settings.port, settings.max_k, settings.max_batch) == ("::1", 9001, 5, 64)
    assert Settings.read(port=None).port == 9000
    for empty in ("UDR_DEVICE", "UDR_KEYS", "UDR_MAX_BATCH"):
        monkeypatch.setenv(empty, "")
    assert (Settings.read().device, Settings.read().keys, Settings.read().max_batch) == (None, None, 64)
    monkeypatch.setenv("UDR_PORT", "tcp://10.0.0.1:9000")
    assert Settings.read().port == 8000
    for origins in ("https://a.example, https://b.example/", '["https://a.example", "https://b.example"]'):
        monkeypatch.setenv("UDR_CORS_ORIGINS", origins)
        assert Settings.read().cors_origins == ("https://a.example", "https://b.example")
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "abc", "UDR_PORT.*found 'abc'"),
        ("PORT", "65536", r"setting port \(UDR_PORT\): must be less than or equal to 65535; found '65536'"),
        ("MAX_K", "0", "UDR_MAX_K.*found '0'"),
        ("MAX_BODY_BYTES", "2 MiB", "UDR_MAX_BODY_BYTES.*found '2 MiB'"),
        ("QUEUE_SIZE", "10", r"max_batch \(64\) must not be above queue_size \(10\)"),
        ("RUNNER", "spark", r"setting runner \(UDR_RUNNER\): must be 'local' or 'ray'; found 'spark'"),
        ("REPLICAS", "0", "UDR_REPLICAS.*found '0'"),
        ("TLS_CERT", "cert.pem", "settings: set tls_cert and tls_key together, or neither$"),
    ],
)
def test_invalid_values_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(f"UDR_{name}", value)
    with pytest.raises(ConfigError, match=message) as raised:
        Settings.read()
    assert "\n" not in str(raised.value)


def test_autoscaling_needs_room() -> None:
    with pytest.raises(ConfigError, match=r"max_replicas \(2\) must not be below replicas \(3\)"):
        Settings.read(replicas=3, max_replicas=2)


def test_options_are_named_as_on_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"setting watch_seconds \(--watch-seconds or UDR_WATCH_SECONDS\): must be"):
        Settings.read(watch_seconds=-1)
