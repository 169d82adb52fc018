"""Settings: a flag before the environment before the default, and one line for what makes no sense."""

import pytest

from udr.errors import ConfigError
from udr_service import Settings


def test_a_flag_goes_before_the_environment_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDR_PORT", "9000")
    monkeypatch.setenv("UDR_MAX_K", "5")
    settings = Settings.read(host="::1", port=9001, device=None)
    assert (settings.host, settings.port, settings.max_k, settings.max_batch) == ("::1", 9001, 5, 64)
    assert Settings.read(port=None).port == 9000


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "abc"), ("PORT", "65536"), ("MAX_K", "0"), ("QUEUE_SIZE", "-1"), ("MAX_BODY_BYTES", "2 MiB")],
)
def test_a_value_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"UDR_{name}", value)
    with pytest.raises(ConfigError, match=f"UDR_{name}.*found '{value}'") as raised:
        Settings.read()
    assert "\n" not in str(raised.value)


def test_a_batch_must_fit_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDR_QUEUE_SIZE", "10")
    with pytest.raises(ConfigError, match=r"max_batch \(64\) must not be above queue_size \(10\)"):
        Settings.read()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1
