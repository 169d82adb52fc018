"""``make docs``: the site is built without a warning, its links lead somewhere, and it loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.pages import ROOT
from udr.cli import application

pytest.importorskip("mkdocs", reason="needs the extra docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a process of its own, as ``make docs`` builds it."""
    out = tmp_path_factory.mktemp("site") / "site"
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return out


def texts(site: Path, *suffixes: str) -> dict[str, str]:
    return {str(path.relative_to(site)): path.read_text("utf-8") for suffix in suffixes for path in site.rglob(suffix)}


def test_it_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = texts(site, "*.html", "*.css")
    assert len(pages) > 20
    for name, text in pages.items():
        loaded = re.findall(r"""<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=["']?((?:https?:)?//[^"' >]+)""", text)
        loaded += re.findall(r"""(?:url\(|@import )["']?((?:https?:)?//[^"')]+)""", text)
        assert [address for address in loaded if not address.startswith("http://www.w3.org/")] == [], name


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    pages = texts(site, "*.html")
    anchors = {name: set(re.findall(r"""\bid=["']?([^"' >]+)""", text)) for name, text in pages.items()}
    for name, text in pages.items():
        if name == "404.html":
            continue
        for link in set(re.findall(r"""<a\b[^>]*\bhref=["']?([^"' >]+)""", text)):
            if link.startswith(("http:", "https:", "mailto:")):
                continue
            path, _, anchor = link.partition("#")
            target = os.path.normpath(Path(name).parent / path) if path else name
            assert target == "." or (site / target).exists(), (name, link)
            assert not anchor or not target.endswith(".html") or anchor in anchors[target], (name, link)


def test_every_page_of_the_documentation_is_in_the_menu(site: Path) -> None:
    start = (site / "index.html").read_text("utf-8")
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if f'href="{page}"' not in start] == []


def test_the_references_name_every_command_operation_and_public_name(site: Path) -> None:
    import typer

    import udr

    commands = (site / "reference" / "cli.html").read_text("utf-8")
    group = typer.main.get_command(application())
    names = [f"udr {name}" for name in group.commands]  # type: ignore[attr-defined]
    assert len(names) > 8 and [name for name in names if f"<code>{name}</code>" not in commands] == []
    assert "<code>udr index build</code>" in commands and "--label-head" in commands
    # As the help shows them: in groups, with each default, and in words.
    assert "<strong>Candidates and feedback</strong>" in commands and "[default: all]" in commands
    assert "&amp;lt;" not in commands and "[default: (" not in commands
    python = (site / "reference" / "python.html").read_text("utf-8")
    assert [name for name in dir(udr) if f'id="udr.{name}"' not in python] == []
    assert "/v1/retrieve/batch" in (site / "reference" / "rest.html").read_text("utf-8")
