"""Proves the files in deploy/ as far as that goes without a container engine, a cluster and a running systemd.

    python deploy/checks/check.py WORK [--parts NAME,...] [--write]

WORK keeps what is made; a later run uses it again. The parts:

- ``prometheus``: promtool checks the rules and the configuration, runs ``alerts.test.yaml``, and parses the expressions
  of the dashboard;
- ``helm``: Helm's own code lints and renders the chart, with several values; ``deploy/kubernetes/udr.yaml`` is what it
  renders by default (``--write`` writes that file);
- ``kubernetes``: what was rendered is valid by the strict schemas of Kubernetes, of the oldest version that the chart
  takes and of the newest that the validator knows;
- ``compose``: compose.yaml is valid by Compose's schema;
- ``image``: every step of the Dockerfile runs in a folder that debootstrap makes; both images then serve as their user,
  with a read-only root, no privileges and no network, are healthy, answer a client with a key, and end at SIGTERM;
- ``systemd``: systemd verifies the unit in such a folder; the service runs with memory that is never both writable and
  executable, and calls only what the unit's filter allows.

Prints a line per proof. The exit status is 1 if one fails, or could not be run because a tool is missing.
"""

import argparse
import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from image import Image, build
from running import MissingToolError, calls_in, calls_of_the_service, index, keys, run, udr

DEPLOY = Path(__file__).parents[1]
CHART, MANIFESTS = DEPLOY / "helm/udr", DEPLOY / "kubernetes/udr.yaml"
OLDEST, NEWEST = "1.25", "1.37"
COMPOSE_SCHEMA = "dclint@3.1.0"
QUERY = ["wake me at six", "--task", "home_assistant", "--k", "2"]

VALUES: dict[str, dict[str, Any]] = {
    "the default values": {},
    "a baked index, no autoscaling, no network policy": {
        "index": {"existingClaim": ""},
        "autoscaling": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
    "every option": {
        "imagePullSecrets": [{"name": "registry"}],
        "secretEnv": "udr-secrets",
        "workers": 4,
        "rootPath": "/udr",
        "trustedProxies": "10.0.0.0/8",
        "keepAliveSeconds": 120,
        "service": {"type": "LoadBalancer", "port": 8080},
        "podDisruptionBudget": {"maxUnavailable": None, "minAvailable": "50%"},
        "networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "udr", "operator": "Exists"}],
    },
}


def prometheus(work: Path) -> Iterator[str]:
    folder = DEPLOY / "prometheus"
    run("promtool", "check", "rules", folder / "alerts.yaml")
    run("promtool", "test", "rules", folder / "alerts.test.yaml")
    run("promtool", "check", "config", "--syntax-only", folder / "prometheus.yaml")
    yield "promtool accepts the rules and the configuration, and each alert fires when it should"
    panels = json.loads((DEPLOY / "grafana/udr.json").read_bytes())["panels"]
    expressions = [target["expr"].replace("$__rate_interval", "5m") for panel in panels for target in panel["targets"]]
    rules = [{"record": f"dashboard:{number}", "expr": text} for number, text in enumerate(expressions)]
    path = work / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    run("promtool", "check", "rules", path)
    yield f"promtool parses the {len(expressions)} expressions of the dashboard"


def helm(work: Path) -> Iterator[str]:
    from helm_python import helm_sdk_version, lint

    messages = [item["error"] for item in lint(str(CHART))["messages"] if item["error"] != "icon is recommended"]
    assert not messages, messages
    texts = {name: rendered(name) for name in VALUES}
    assert MANIFESTS.read_text("utf-8") == texts["the default values"], (
        f"{MANIFESTS} is not what the chart renders; run: make check-deploy WRITE=1"
    )
    yield f"Helm {helm_sdk_version()} lints and renders the chart with {', '.join(VALUES)}"


def kubernetes(work: Path) -> Iterator[str]:
    from kubernetes_validate import validate

    for version in (OLDEST, NEWEST):
        count = 0
        for document in itertools.chain.from_iterable(yaml.safe_load_all(rendered(name)) for name in VALUES):
            validate(document, version, strict=True)
            count += 1
        yield f"{count} rendered manifests are valid by the strict schemas of Kubernetes {version}"


def compose(work: Path) -> Iterator[str]:
    from jsonschema import validate

    run("npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--prefix", work / "npm", COMPOSE_SCHEMA)
    schema = json.loads((work / "npm/node_modules/dclint/schemas/compose.schema.json").read_bytes())
    validate(yaml.safe_load((DEPLOY / "compose.yaml").read_bytes()), schema)
    yield f"compose.yaml is valid by Compose's schema, from {COMPOSE_SCHEMA}"


def built_image(work: Path) -> Iterator[str]:
    images = _images(work)
    yield "every step of the Dockerfile ran"
    file, key = keys(work)
    ask = f"udr retrieve --url http://127.0.0.1:8000 {' '.join(map(repr, QUERY))} --json"
    variables = {"UDR_KEYS": "/run/secrets/keys.toml", "UDR_API_KEY": key}
    expected = json.loads(udr("retrieve", index(work), *QUERY, "--json"))
    for name, mounts in (("service", {"/index": index(work)}), ("baked", {})):
        answer = json.loads(images[name].serve(ask, {**mounts, "/run/secrets/keys.toml": file}, **variables))
        found, wanted = ([item["id"] for item in it["demonstrations"]] for it in (answer, expected))
        assert found == wanted, f"{name} answers {found}, and here it is {wanted}"
        yield f"{name} serves unprivileged, read-only and offline, is healthy, answers, and ends at SIGTERM"
    size = run("du", "--summarize", "--block-size=1M", images["service"].root / "opt/udr").split()[0]
    yield f"what it adds to Debian's Python takes {size} MiB"


def systemd(work: Path) -> Iterator[str]:
    machine = Image(work / "machine")
    if not machine.root.is_dir():
        part = work / "machine.part"
        shutil.rmtree(part, ignore_errors=True)
        run("cp", "--archive", _images(work)["service"].root, part)
        Image(part).run("apt-get update && apt-get install --yes --no-install-recommends systemd procps > /dev/null")
        part.rename(machine.root)
    shutil.copy(DEPLOY / "systemd/udr.service", machine.root / "etc/systemd/system/")
    machine.run("systemd-analyze verify --man=no udr.service && systemd-analyze --version | head -1")
    yield "systemd verifies the unit, in Debian trixie"
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", DEPLOY / "systemd/udr.service")
    yield "systemd calls its exposure at most 2.0 of 10"
    called = calls_of_the_service(work)
    refused = called - (calls_in("@system-service") - calls_in("@privileged"))
    assert not refused, f"the unit's filter refuses calls of the service: {', '.join(sorted(refused))}"
    yield f"the service works without memory both writable and executable; the filter allows its {len(called)} calls"


PARTS = {
    "prometheus": prometheus,
    "helm": helm,
    "kubernetes": kubernetes,
    "compose": compose,
    "image": built_image,
    "systemd": systemd,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("work", type=Path)
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--write", action="store_true", help="write deploy/kubernetes/udr.yaml first")
    arguments = options.parse_args()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if arguments.write:
        MANIFESTS.write_text(rendered("the default values"), "utf-8")
    unproven = [name for name in arguments.parts.split(",") if not _proven(name, work)]
    print(f"udr: not proven: {', '.join(unproven)}" if unproven else "udr: all proven", flush=True)
    sys.exit(bool(unproven))


def _proven(name: str, work: Path) -> bool:
    try:
        for line in PARTS[name](work):
            print(f"{name}: {line}", flush=True)
    except (MissingToolError, ModuleNotFoundError) as error:
        print(f"{name}: NOT RUN: {error}", flush=True)
        return False
    except Exception as error:
        # Each validator has its own errors; the other parts run all the same.
        print(f"{name}: FAILED: {error}", flush=True)
        return False
    return True


def rendered(name: str) -> str:
    """Return the manifests that the chart renders with some of ``VALUES``, in the order of Helm's files."""
    from helm_python import Chart

    with Chart.load(str(CHART)) as chart:
        files = chart.render(VALUES[name], name="udr", namespace="default")
    texts = [text.strip() for path, text in sorted(files.items()) if path.endswith(".yaml")]
    return "---\n".join(
        ["# The chart deploy/helm/udr, rendered with its default values.\n", *(f"{text}\n" for text in texts if text)]
    )


@cache
def _images(work: Path) -> dict[str, Image]:
    return build(DEPLOY / "Dockerfile", DEPLOY.parent, work, {"index": index(work)})


if __name__ == "__main__":
    main()
