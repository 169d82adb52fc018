"""OpenTelemetry: what FastAPI reports about requests, what is kept out of it, and where it goes."""

import logging
import os
from importlib.util import find_spec

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

from udr.errors import MissingExtraError

# Every exporter brings the second; its subpackages cannot be looked up if it is missing.
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter")
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_EXPORT_SECONDS = "2"

_LOG = logging.getLogger(__name__)


def telemetry(on: bool) -> TelemetryConfig:
    """Return FastAPI's telemetry settings.

    Raises:
        MissingExtraError: telemetry is on, but the exporter is not installed.
    """
    if on and not all(find_spec(name) for name in _PACKAGES):
        raise MissingExtraError("OpenTelemetry's exporter", "telemetry")
    # Its logs would hold the inputs of invalid requests.
    return {"tracing": on, "metrics": on, "logs": False, "auto_configure": on}


def prepare_export() -> None:
    """Set the export timeout in the environment, and warn if nothing is exported; only commands call this."""
    # By default, each of the four exports at the end waits 10 seconds for a collector that is gone.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", _EXPORT_SECONDS)
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        _LOG.warning("telemetry is on, but nothing is exported: %s is not set", _ENDPOINTS[0])


def keep_url_from_trace() -> None:
    """Remove the URL from a request's span, except the route: it may hold a query or a key."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({"url.path": "", "url.query": ""})
