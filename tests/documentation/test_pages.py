"""Every page in docs/: its blocks run, its commands exist with their options, and its data can be read."""

import json
import re
import shlex
import shutil
import tomllib

import pytest

from tests.documentation.pages import ROOT, Place, blocks, commands, language_model
from tests.fakes import write_task
from udr.cli import main
from udr.data import open_collection

DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text("utf-8") for path in sorted(DOCS.glob("*.md"))}
RUN = {
    "pays.md": [
        *("train tasks", "train tasks", "evaluate tasks", "evaluate tasks", "index build", "evaluate tasks"),
    ],
    "indexes.md": [
        *("index build", "index build", "index info", "index bench", "index bench", "index verify", "index list"),
        *("index diff", "index prune"),
    ],
    "prompts.md": ["retrieve my-index", "prompt my-index"],
    "filters.md": ["retrieve my-index", "keys new"],
    "live-pools.md": [
        *("index put", "index get", "index list", "index delete", "index compact", "index export", "index export"),
        *("index import", "index backup", "index restore", "serve my-index", "index usage", "index outcomes"),
        *("feedback import", "train tasks"),
    ],
    "pools.md": ["pool score", "pool curate", "pool score", "pool criteria", "pool score", "pool synthesise"],
    "deploy.md": ["keys new", "keys new"],
    "serving.md": ["serve my-index", "keys new", "serve my-index", "serve my-index", "serve my-index"],
    "your-llm.md": ["evaluate tasks"],
    "training.md": ["train tasks", "train tasks", "feedback score", "feedback export", "feedback stats"],
}
"""The pages that run here, from a table, its task and its index on, and the commands that they run."""
RUN_ELSEWHERE = {
    "gateway.md": "service/api/test_gateway_clients.py",
    "integrations.md": "udr/integrations/test_docs.py",
    "losses.md": "training/losses/test_losses_doc.py",
    "scaling.md": "service/shards/test_commands.py",
}
"""The other pages with Python, and the tests that run it."""

SUMS = {
    "name": "sums",
    "family": "math",
    "kind": "generation",
    "instruction": "Add.",
    "input": "Question: {question}",
    "output": "Answer: {target}",
    "metric": "exact_match",
}

GROUPS = ("index", "feedback", "tasks", "keys", "pool")


def _answer(messages: list[dict[str, str]]) -> str:
    """Work out the sum, prefer the ticket with the lower number, or name a category."""
    text = messages[-1]["content"]
    if text.startswith("Two rows"):
        first, second = (int(number) for number in re.findall(r"no (\d+)", text))
        return "A" if first < second else "B"
    return "5 and 7 are 12.\n#### 12" if "####" in messages[0]["content"] else "billing"


@pytest.mark.parametrize("name", RUN)
def test_a_page_runs(place: Place, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    init = ["init", "tickets.csv", "--out", "tasks", "--input", "subject,body", "--target", "category"]
    assert main(init) == main(["index", "build", "tasks", "--out", "my-index"]) == 0
    # The certificate and the key that serving.md has.
    for file in ("cert.pem", "key.pem"):
        shutil.copy(ROOT / "tests/fixtures/tls/first.pem", file)
    # What pools.md has solutions worked out for.
    write_task(place.folder / "questions", SUMS, train=[{"id": "q", "input": {"question": "5 + 7"}, "target": "12"}])
    ids = [row.id for row in open_collection(place.folder / "tasks").tasks["tickets"].rows("train")]
    preferred = zip(ids[:15], ids[15:30], strict=True)
    (place.folder / "pairs.jsonl").write_text("".join(f'{{"better": "{a}", "worse": "{b}"}}\n' for a, b in preferred))
    with language_model(_answer) as place.model:
        # Else a thousand pairs of rows would be judged by each criterion.
        place.run(PAGES[name].replace("--label-pairs 1000", "--label-pairs 40"))
    assert place.ran == RUN[name]
    if name == "prompts.md":
        out = capsys.readouterr().out
        assert "Charged twice" in out and "PartTokens(" in out


@pytest.mark.parametrize("name", PAGES)
def test_its_commands_exist_and_its_data_can_be_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(PAGES[name]):
        # What stands before udr is the environment.
        words = shlex.split(re.sub(r"^([A-Z_]+=\S+ )*", "", command))
        if not words or words[0] != "udr":
            continue
        group = words[1:3] if words[1] in GROUPS else words[1:2]
        assert main([*group, "--help"]) == 0, command
        shown = capsys.readouterr().out
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= set(re.findall(r"--[a-z0-9-]+", shown)), command
    for language, code in blocks(PAGES[name]):
        if language == "json":
            json.loads(code)
        elif language == "toml":
            tomllib.loads(code)
        elif language == "python":
            compile(code, name, "exec")


def test_a_page_with_code_is_run_by_some_test() -> None:
    with_code = {name for name, page in PAGES.items() if blocks(page, "python")}
    assert with_code - RUN.keys() == RUN_ELSEWHERE.keys()
    for name, path in RUN_ELSEWHERE.items():
        test = (ROOT / "tests" / path).read_text("utf-8")
        assert name in test and re.search(r"\bexec\(|\bblocks\(", test), path


@pytest.mark.parametrize("name", ["how-it-works.md", "compared.md", "pays.md"])
def test_every_figure_of_the_explanations_stands_in_the_results_that_it_links(name: str) -> None:
    text = re.sub(r"https?://\S+|--prices \S+", "", PAGES[name])
    linked = set(re.findall(r"\]\((results/[\w-]+\.md)", text))
    results = "\n".join((DOCS / link).read_text("utf-8") for link in linked)
    measured, figures = (set(re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", own)) for own in (results, text))
    assert figures and figures - measured == set()
