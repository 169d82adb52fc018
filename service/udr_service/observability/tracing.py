"""OpenTelemetry, in one file: what FastAPI reports of requests, what is kept out of it, and where it goes."""

import logging
import os
from importlib.util import find_spec

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

from udr.errors import MissingExtraError

# The second is there with any exporter; its own packages cannot be looked for where it is not.
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter")
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_EXPORT_SECONDS = "2"

_LOG = logging.getLogger(__name__)


def telemetry(on: bool) -> TelemetryConfig:
    """Return what FastAPI is told of it.

    Raises:
        MissingExtraError: it is asked for, and what exports it is not installed.
    """
    if on and not all(find_spec(name) for name in _PACKAGES):
        raise MissingExtraError("OpenTelemetry's exporter", "telemetry")
    # Its logs would hold the inputs of requests that do not fit their schema.
    return {"tracing": on, "metrics": on, "logs": False, "auto_configure": on}


def prepare_export() -> None:
    """See to it that exporting does not hold up the end of the process, and that it leads somewhere.

    To be called by a command, and by nothing else: it sets the environment.
    """
    # By default an export waits 10 seconds for a collector that is gone, and there are four at the end.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", _EXPORT_SECONDS)
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        _LOG.warning("telemetry is on, but nothing is exported: %s is not set", _ENDPOINTS[0])


def keep_url_from_trace() -> None:
    """Take out of a request's span what may hold a client's text or key: all of its URL but the route."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({"url.path": "", "url.query": ""})
