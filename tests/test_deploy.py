"""The files in deploy/ name only metrics, settings, options and paths that exist, and agree with one another."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import udr
from tests.service.conftest import served
from udr import Retriever
from udr.cli import main
from udr.store.usage import UsageLevel
from udr_service import Settings
from udr_service.auth import GATEWAY
from udr_service.observability import Metrics, Refusal, Reload, Stage, Upkeep, of_workers

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FILES = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"]
PAGE = ROOT / "docs/deploy.md"
PORT = Settings.model_fields["port"].default
VALUES: dict[str, set[str]] = {"stage": {*Stage}, "reason": {*Refusal}, "outcome": {*Reload}, "part": {*Upkeep}}


def read(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_bytes())


MANIFESTS = {item["kind"]: item for item in yaml.safe_load_all((DEPLOY / "kubernetes/udr.yaml").read_bytes())}
POD = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
COMPOSE = read("compose.yaml")["services"]["udr"]
UNIT = (DEPLOY / "systemd/udr.service").read_text("utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")


def of_unit(name: str) -> list[str]:
    return [word for line in re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE) for word in line.split()]


def of_dockerfile(instruction: str) -> list[str]:
    return [word for line in re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()]


def pairs(words: list[str]) -> dict[str, str]:
    return {name: value.strip('"') for name, value in (word.split("=", 1) for word in words)}


IMAGE_ENVIRONMENT = pairs(of_dockerfile("ENV"))
ENVIRONMENTS: dict[str, Mapping[str, str]] = {
    "Dockerfile": IMAGE_ENVIRONMENT,
    "compose": IMAGE_ENVIRONMENT | COMPOSE["environment"],
    "kubernetes": IMAGE_ENVIRONMENT | MANIFESTS["ConfigMap"]["data"],
    "systemd": pairs(of_unit("Environment")),
}


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for variable, value in ENVIRONMENTS[name].items():
        if variable.startswith("UDR_"):
            monkeypatch.setenv(variable, value)
    return Settings.read()


def expressions() -> Iterator[str]:
    """Every expression of Prometheus's language in deploy/."""
    for panel in json.loads((DEPLOY / "grafana/udr.json").read_bytes())["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for rule in read("prometheus/alerts.yaml")["groups"][0]["rules"]:
        yield rule["expr"]
    for test in read("prometheus/alerts.test.yaml")["tests"]:
        yield from (item["series"] for item in test["input_series"])
    yield from (rule["seriesQuery"] for rule in read("kubernetes/prometheus-adapter.yaml")["rules"]["custom"])
    yield from (it["pods"]["metric"]["name"] for it in MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"])


def test_every_file_can_be_read() -> None:
    for path in FILES:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".yaml" and path.parent.name != "templates":
            list(yaml.safe_load_all(path.read_bytes()))


def other_metrics() -> str:
    """The metrics of services of shards and of several workers."""
    metrics = Metrics([])
    metrics.count_missing(["shard-1-of-2"])
    return metrics.render([of_workers(2, 0)])[0].decode()


def test_every_metric_and_label_exists_in_the_metrics_of_a_service(retriever: Retriever) -> None:
    with served(retriever) as client:
        for path in ("/livez", "/readyz", "/metrics", "/v1/tasks"):
            assert client.get(path).status_code == 200
        families = list(text_string_to_metric_families(client.get("/metrics").text))
    families += text_string_to_metric_families(other_metrics())
    samples = list(chain.from_iterable(family.samples for family in families))
    routes = {sample.labels["route"] for sample in samples if sample.name == "udr_requests_total"}
    routes |= {"/v1/retrieve", GATEWAY}
    labels = dict[str, set[str]]()
    for sample in samples:
        labels.setdefault(sample.name, set()).update(sample.labels)
    labels["up"] = set()
    # What Prometheus and prometheus.yaml add.
    added = {"job", "instance", "namespace", "pod"}
    for expression in expressions():
        names = re.findall(r"\b(?:udr|process|python)_\w+|\bup\b", expression)
        assert names and set(names) <= labels.keys(), expression
        for name, selectors in re.findall(r"([a-z_]+)\{([^}]*)\}", expression):
            for label, value in re.findall(r'(\w+)[=!]~?"([^"]*)"', selectors):
                assert label in labels[name] | added, expression
                assert label not in VALUES or set(value.split("|")) <= VALUES[label], expression
                assert label != "route" or set(value.split("|")) <= routes, expression


def test_every_metric_of_ours_is_shown_or_watched() -> None:
    used = {name for text in expressions() for name in re.findall(r"\budr_\w+", text)}
    ours = {re.sub("_(bucket|sum|count|total)$", "", name) for name in used}
    defined = set(re.findall(r"^# TYPE (udr_\w+?)(?:_total)? \w+$", other_metrics(), re.MULTILINE))
    assert len(defined) > 8
    assert defined - ours <= {f"{name}_created" for name in defined}


def test_each_alert_is_tested_both_ways() -> None:
    alerts = {rule["alert"] for rule in read("prometheus/alerts.yaml")["groups"][0]["rules"]}
    quiet, loud = read("prometheus/alerts.test.yaml")["tests"]
    assert {item["alertname"] for item in quiet["alert_rule_test"]} == alerts
    samples = loud["promql_expr_test"][0]["exp_samples"]
    assert {re.findall(r'alertname="(\w+)"', item["labels"])[0] for item in samples} == alerts


def test_every_variable_is_a_setting() -> None:
    known = {f"UDR_{name.upper()}" for name in Settings.model_fields} | {"UDR_API_KEY", "UDR_CACHE", "UDR_DEBUG"}
    for path in [*FILES, PAGE]:
        named = set(re.findall(r"\bUDR_[A-Z_]*[A-Z]\b", path.read_text("utf-8")))
        assert named <= known, path


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_settings_are_valid_and_the_ports_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(name, monkeypatch)
    assert settings.port == PORT
    # Other machines are answered with keys only.
    assert not settings.insecure_no_keys and (settings.keys is not None or name == "Dockerfile")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_names_its_workers_its_proxy_and_its_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"workers", "root_path", "trusted_proxies", "keep_alive_seconds", "linger_seconds", "drain_seconds"}
    assert {f"UDR_{setting.upper()}" for setting in names} <= ENVIRONMENTS[name].keys()
    settings = settings_of(name, monkeypatch)
    # A pod leaves its service slowly.
    differing = {"linger_seconds"} if name == "kubernetes" else set()
    assert {
        setting for setting in names if getattr(settings, setting) != Settings.model_fields[setting].default
    } == differing


def test_ports_and_paths_agree() -> None:
    assert of_dockerfile("EXPOSE") == [str(PORT)]
    assert [port.split(":")[1:] for port in COMPOSE["ports"]] == [[str(PORT), str(PORT)]]
    (container,) = POD["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [PORT]
    assert {container[probe]["httpGet"]["port"] for probe in container if probe.endswith("Probe")} == {"http"}
    assert MANIFESTS["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert read("prometheus/prometheus.yaml")["scrape_configs"][0]["static_configs"][0]["targets"][0].endswith(
        f":{PORT}"
    )
    (index,) = json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[0])
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert index == container["args"][0] == mounts["index"]["mountPath"] == COMPOSE["volumes"][0]["target"]
    keys = Path(MANIFESTS["ConfigMap"]["data"]["UDR_KEYS"])
    assert str(keys.parent) == mounts["keys"]["mountPath"]
    # A file that is mounted alone stays the one that each new key replaces.
    folder = COMPOSE["volumes"][1]
    assert str(Path(COMPOSE["environment"]["UDR_KEYS"]).parent) == folder["target"] and folder["read_only"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_nothing_is_counted_beside_an_index_that_is_read_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(name, monkeypatch).usage is UsageLevel.OFF
    assert COMPOSE["volumes"][0]["read_only"]
    assert all(mount["readOnly"] for mount in POD["containers"][0]["volumeMounts"] if mount["name"] == "index")


def test_nothing_runs_as_root_or_writes() -> None:
    user, security = of_dockerfile("USER")[0], POD["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}" == "10001:10001" and security["runAsNonRoot"]
    (container,) = POD["containers"]
    assert COMPOSE["read_only"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert COMPOSE["cap_drop"] == container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert of_unit("User") == ["udr"] and of_unit("ProtectSystem") == ["strict"]


def test_each_waits_longer_for_the_end_than_the_service_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = {
        "compose": int(COMPOSE["stop_grace_period"].removesuffix("s")),
        "kubernetes": POD["terminationGracePeriodSeconds"],
        "systemd": int(of_unit("TimeoutStopSec")[0]),
    }
    for name, seconds in waits.items():
        with monkeypatch.context() as patch:
            settings = settings_of(name, patch)
        assert seconds > settings.linger_seconds + settings.drain_seconds, name


def test_the_image_is_made_of_what_is_sent_to_the_builder() -> None:
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    copied = [
        word for words in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in words.split()
    ]
    assert {f"!{name}" for name in copied} == {line for line in sent if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    chart = read("helm/udr/Chart.yaml")
    assert chart["appVersion"] == udr.__version__ and POD["containers"][0]["image"] == f"udr:{udr.__version__}"


def test_the_chart_takes_keys_from_a_secret_and_its_values_are_those_that_it_uses() -> None:
    templates = "".join(path.read_text("utf-8") for path in sorted((DEPLOY / "helm/udr/templates").iterdir()))
    used = set(re.findall(r"\.Values\.(\w+)", templates))
    schema = json.loads((DEPLOY / "helm/udr/values.schema.json").read_bytes())
    assert used == read("helm/udr/values.yaml").keys() == schema["properties"].keys() - {"global"}
    assert "{{- with .Values.secretEnv }}\n            - secretRef: {name: {{ . }}}\n" in templates


COMMAND = re.compile(r"\budr ((?:keys new|index build|index export-encoder|serve|retrieve)\b[^`\n]*)")


def test_every_command_and_option_exists(capsys: pytest.CaptureFixture[str]) -> None:
    found = 0
    for path in [*FILES, PAGE]:
        for line in COMMAND.findall(path.read_text("utf-8")):
            words = line.replace('"', "").split()
            command = words[: 2 if words[0] in ("keys", "index") else 1]
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert main([*command, "--help"]) == 0
            assert options <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out)), (path, line)
            found += len(options)
    assert found > 0
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[0]) == ["udr", "serve"]
    assert of_unit("ExecStart")[:2] == ["/opt/udr/bin/udr", "serve"]
