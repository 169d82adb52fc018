"""What MkDocs does not do itself: pages made of code, the order of pages, and links out of the documentation.

The start page is the README. The references are made of the commands, of ``docs/openapi.json`` and of docstrings, so
they cannot differ from what they describe. A new page in ``docs/`` appears at once; ``ORDER`` says where.
"""

import json
import re
from collections.abc import Iterator
from os.path import normpath
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import udr
from udr.cli import application, sections
from udr_service.api import reference

ROOT = Path(__file__).parents[2]

ORDER: dict[str, list[str]] = {
    "Start": ["index.md", "your-data.md", "pays.md"],
    "Use": [
        *("training.md", "pools.md", "indexes.md", "serving.md", "prompts.md", "filters.md", "gateway.md"),
        *("your-llm.md", "live-pools.md", "integrations.md", "losses.md"),
    ],
    "Run": ["deploy.md", "scaling.md", "limits.md", "trust.md", "privacy.md"],
    "Reference": ["reference/rest.md", "reference/cli.md", "reference/python.md"],
    "Background": ["how-it-works.md", "compared.md", "architecture.md"],
}
"""The sections, and the order of their pages. Pages that do not exist are left out."""

MEMBERS = {
    "udr": dir(udr),
    "udr.models": ["TokenCounter", "ChatCounter", "TransformersTokenizer", "TiktokenTokenizer"],
    "udr.errors": [""],
    "udr.integrations.langchain": [""],
    "udr.integrations.dspy": [""],
    "udr.integrations.haystack": [""],
    "udr.integrations.llama_index": [""],
    "udr_training.losses": ["CandidateLoss"],
}
"""The Python reference: by module, its names; the empty one is the module itself."""

# Blocks and spans of code are matched first, since they may hold what looks like a link.
_LINK = re.compile(
    r"^```.*?^```|(?<!!)\[(?P<text>[^\]]+)\]\((?!https?:|#|mailto:)(?P<target>[^)#\s]+)(?:#[^)\s]*)?\)|`[^`\n]*`",
    re.DOTALL | re.MULTILINE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    start = (ROOT / "README.md").read_text("utf-8").replace("](docs/", "](")
    description = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
    pages = {
        "index.md": start,
        "reference/cli.md": _commands(),
        "reference/rest.md": f"# REST reference\n\n{_REST}\n\n{reference(description)}\n",
        "reference/python.md": _python(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the order of the pages."""
    docs = Path(config.docs_dir)
    generated = {"index.md", *ORDER["Reference"]}
    there = {path.name for path in docs.glob("*.md")} | generated
    named = {page for pages in ORDER.values() for page in pages}
    config.nav = [
        *({section: [page for page in pages if page in there]} for section, pages in ORDER.items()),
        {"Results": [f"results/{path.name}" for path in sorted((docs / "results").glob("*.md"))]},
        *([{"More": sorted(there - named)}] if there - named else []),
    ]
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace links to files that the site does not have by their text."""

    def link(match: re.Match[str]) -> str:
        if match["target"] is None:
            return match[0]
        path = normpath(Path(page.file.src_uri).parent / match["target"])
        return match[0] if files.get_file_from_path(path) is not None else match["text"]

    return _LINK.sub(link, markdown)


_REST = """Every service has this page at `/docs`, and the description that it is made of at `/v1/openapi.json`. Errors
are problem documents (RFC 9457). If the service has keys, send one as `Authorization: Bearer KEY`; see
[serving](../serving.md). `udr.Client` and `udr.AsyncClient` call these paths."""


def _commands() -> str:
    """Return the reference of the command line, from the commands themselves."""
    command = typer.main.get_command(application())
    return "\n\n".join(["# Command line", *_command(command, None, "udr", 1)]) + "\n"


def _command(command: Any, parent: Any, name: str, level: int) -> Iterator[str]:  # noqa: ANN401
    """Yield the parts of a command and of those below it."""
    with command.make_context(name, [], parent=parent, resilient_parsing=True) as context:
        if parent is not None:
            yield f"{'#' * level} `{context.command_path}`"
        yield _escaped(command.help or "")
        yield f"```console\n$ {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
        for title, records in sections(command, context).items():
            yield f"**{title}**"
            yield "\n".join(f"- `{names}`: {_escaped(text)}" for names, text in records)
        if below := {child: command.get_command(context, child) for child in getattr(command, "commands", {})}:
            below = {child: below[child] for child in command.list_commands(context)}
            yield "**Commands**"
            yield "\n".join(f"- `{child}`: {_escaped(it.get_short_help_str(200))}" for child, it in below.items())
            for child, it in below.items():
                yield from _command(it, context, child, level + 1)


def _escaped(text: str) -> str:
    """Return a help text as Markdown: its angle brackets are text."""
    return re.sub(r"<(?=\w)", "&lt;", text)


# Classes of several files have the members of all.
_OPTIONS = "{heading_level: 3, inherited_members: true}"


def _python() -> str:
    parts = ["# Python reference", "`from udr import ...` has the names of the first section."]
    for module, names in MEMBERS.items():
        parts.append(f"## `{module}`")
        parts += [f"::: {module}{f'.{name}' if name else ''}\n    options: {_OPTIONS}" for name in names]
    return "\n\n".join(parts) + "\n"
