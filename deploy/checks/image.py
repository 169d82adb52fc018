"""Builds the stages of a Dockerfile in folders, where there is no container engine, and runs them.

It knows the instructions that deploy/Dockerfile has, and refuses others. ``FROM debian:SUITE-slim`` is a folder that
debootstrap fills. Needs root, for chroot and mounts, and Debian's ``debootstrap``, ``util-linux`` and ``iproute2``.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CERTIFICATES = "/tmp/certificates.pem"
_PASSED = ("http_proxy", "https_proxy", "no_proxy", "PIP_CERT", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
"""What an engine would take from its own settings: how this machine reaches packages."""


@dataclass(frozen=True)
class Image:
    """A stage: the folder of its files, and how it is run."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()

    def inside(self, path: str) -> Path:
        """Return where a path of the image is on this machine."""
        return self.root / self.folder.lstrip("/") / path if not path.startswith("/") else self.root / path.lstrip("/")

    def run(self, shell: str) -> None:
        """Run a shell command as root, with the network; raise ``CalledProcessError`` if it fails."""
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        mounts, files = [f"mount -t proc proc {self.root}/proc"], {"/etc/resolv.conf": "/etc/resolv.conf"}
        if (certificates := passed.get("PIP_CERT")) is not None:
            # Not at its own path: the package ca-certificates may want to replace that file.
            files[certificates] = passed["PIP_CERT"] = _CERTIFICATES
        variables = {"PATH": _PATH, "HOME": "/root", **passed, **self.environment}
        for file, path in files.items():
            target = self.inside(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
            mounts.append(f"mount --bind {file} {target}")
        command = ["env", "-i", *_assignments(variables), "sh", "-c", f"cd {self.folder} && {shell}"]
        _separated("--pid", "--fork", script="\n".join([*mounts, f"exec chroot {self.root} {shlex.join(command)}"]))

    def serve(self, ask: str, mounts: Mapping[str, Path], **variables: str) -> str:
        """Run the image as an engine would: its user, no privileges, a read-only root, no network but loopback.

        Args:
            ask: a shell command, run in the image as its user once its health check succeeds.
            mounts: further folders and files, read-only, by their paths in the image.
            variables: set in addition to the image's own.

        Returns:
            What ``ask`` printed. ``CalledProcessError`` is raised if the image is not healthy within a minute, if
            ``ask`` fails, or if SIGTERM does not end the image with status 0.
        """
        user, group = self.user.split(":")
        limits = f"--reuid={user} --regid={group} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"
        assignments = shlex.join(_assignments({**self.environment, **variables}))
        enter = f"chroot {self.root} /usr/bin/setpriv {limits} /usr/bin/env -i {assignments}"
        for path, source in mounts.items():
            self.inside(path).parent.mkdir(parents=True, exist_ok=True)
            self.inside(path).mkdir(exist_ok=True) if source.is_dir() else self.inside(path).touch()
        binds = [
            f"mount --bind {source} {self.inside(path)}; mount -o remount,ro,bind {self.inside(path)}"
            for path, source in mounts.items()
        ]
        return _separated(
            *("--pid", "--net", "--fork"),
            script=f"""
                ip link set lo up
                mount --bind {self.root} {self.root}
                mount -t proc proc {self.root}/proc
                mount -t tmpfs tmpfs {self.root}/tmp
                {"; ".join(binds) or ":"}
                mount -o remount,ro,bind {self.root}
                if {enter} touch /written /opt/written 2> /dev/null; then echo "the root can be written" >&2; exit 1; fi
                {enter} {shlex.join([*self.entrypoint, *self.command])} & served=$!
                tries=0
                until {enter} {shlex.join(self.health)} 2> /dev/null; do
                    tries=$((tries + 1)); test $tries -lt 240; kill -0 $served; sleep 0.25
                done
                {enter} sh -c {shlex.quote(ask)}
                kill -TERM $served
                wait $served
            """,
        )


def build(dockerfile: Path, context: Path, work: Path, contexts: Mapping[str, Path]) -> dict[str, Image]:
    """Run every step of a Dockerfile, and print each.

    Args:
        dockerfile: the file; ``<dockerfile>.dockerignore`` beside it says what is left out of the context.
        context: the folder that is sent to the builder.
        work: where the folders are made; the bases of earlier calls are used again.
        contexts: further contexts by name.

    Returns:
        The stages by name.
    """
    sent, images, current = work / "context", dict[str, Image](), ""
    _send(context, dockerfile.with_name(f"{dockerfile.name}.dockerignore"), sent)
    text = "\n".join(line for line in dockerfile.read_text("utf-8").splitlines() if not line.startswith("#"))
    for line in filter(None, map(str.strip, text.replace("\\\n", " ").splitlines())):
        print(f"  {' '.join(line.split())[:140]}", flush=True)
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, current = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            images[current] = _copied(images.get(base) or Image(_base(base, work)), work / current)
        elif word == "COPY":
            name = re.match(r"--from=(\S+) ", rest)
            origin = sent if name is None else images[name[1]].root if name[1] in images else contexts[name[1]]
            *sources, target = rest.removeprefix(name[0] if name else "").split()
            for source in sources:
                _copy(origin / source.lstrip("/"), images[current].inside(target), target.endswith("/"))
        else:
            images[current] = _step(images[current], word, rest)
    return images


def _step(image: Image, word: str, rest: str) -> Image:
    if word == "RUN":
        image.run(rest)
    elif word == "WORKDIR":
        image.inside(rest).mkdir(parents=True, exist_ok=True)
        return replace(image, folder=rest)
    elif word == "ENV":
        return replace(image, environment={**image.environment, **dict(it.split("=", 1) for it in shlex.split(rest))})
    elif word == "USER":
        return replace(image, user=rest)
    elif word == "ENTRYPOINT":
        return replace(image, entrypoint=tuple(json.loads(rest)))
    elif word == "CMD":
        return replace(image, command=tuple(json.loads(rest)))
    elif word == "HEALTHCHECK":
        return replace(image, health=tuple(json.loads(rest.partition(" CMD ")[2])))
    elif word == "VOLUME":
        for path in json.loads(rest):
            image.inside(path).mkdir(parents=True, exist_ok=True)
    elif word != "EXPOSE":
        raise ValueError(f"{word}: an instruction that is not known here")
    return image


def _base(name: str, work: Path) -> Path:
    """Return the folder of a ``debian:SUITE-slim``."""
    match = re.fullmatch(r"debian:(\w+)-slim", name)
    if match is None:
        raise ValueError(f"{name}: only debian:SUITE-slim can be made here")
    folder, part = work / f"base-{match[1]}", work / f"base-{match[1]}.part"
    if not folder.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", match[1], part], check=True, stdout=subprocess.DEVNULL)
        part.rename(folder)
    return folder


def _copied(image: Image, root: Path) -> Image:
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "--archive", image.root, root], check=True)
    return replace(image, root=root)


def _copy(source: Path, target: Path, into: bool) -> None:
    """Copy as COPY does: what is in a folder, or a file."""
    (target if into or source.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", f"{source}/." if source.is_dir() else source, target], check=True)
    subprocess.run(["chown", "--recursive", "--no-dereference", "0:0", target], check=True)


def _send(context: Path, ignore: Path, sent: Path) -> None:
    """Copy what the .dockerignore leaves; it may have the rules ``*``, ``!PATH`` and ``**/NAME``."""
    rules = [line for line in ignore.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    left_out = [rule[3:] for rule in rules if rule.startswith("**/")]
    if len(rules) != 1 + len(kept) + len(left_out) or "*" not in rules:
        raise ValueError(f"{ignore}: has a rule that is not known here")
    shutil.rmtree(sent, ignore_errors=True)
    for path in kept:
        if (context / path).is_dir():
            shutil.copytree(
                context / path,
                sent / path,
                ignore=lambda _, names: {name for name in names for rule in left_out if fnmatch(name, rule)},
            )
        else:
            _copy(context / path, sent / path, into=False)


def _assignments(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in variables.items()]


def _separated(*namespaces: str, script: str) -> str:
    command = ["unshare", "--mount", *namespaces, "sh", "-ec", script]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
