"""The playground in a real browser: typed into, looked at, and made to fail."""

import json
import re
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.fakes import HashEncoder, write_collection, write_task
from tests.service.api.test_retrieval import HOSTILE, one_line
from tests.service.conftest import Words
from udr.client import Client
from udr.prompts import Order, PromptBuilder
from udr.retrieval import Retrieval, Retriever, SelectionOptions
from udr.types import Json
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app, listening
from udr_service.auth import Scope as KeyScope
from udr_service.auth import keys

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH; on Debian: apt-get install chromium")

NAUGHTY = [*HOSTILE, "<img src=x onerror=alert(1)>", "`${alert(1)}`", 'it\'s "quoted" \\', "w" * 500]
WAIT = 20_000


class Marked(Words):
    """Counts words, and reads two texts as special tokens."""

    special_tokens = ("[SEP]", "<s>")


@contextmanager
def serving(
    index: Path, wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app, **settings: Any
) -> Iterator[tuple[str, Retriever]]:
    """Serve an index until the block ends; yields the address, and a retriever over the same index."""
    with Retriever.open(index, encoder=HashEncoder()) as retriever, listening("127.0.0.1", 0) as listener:
        app = create_app(retriever, Settings(**settings), Marked())
        server = uvicorn.Server(uvicorn.Config(wrap(app), lifespan="on", log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/", retriever
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def lexical(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small collection and a task of hostile data, with BM25."""
    root = tmp_path_factory.mktemp("playground")
    rows: list[Mapping[str, Json]] = [
        {"id": f"{n}/{one_line(text)}", "input": {"question": text}, "target": text} for n, text in enumerate(NAUGHTY)
    ]
    task: Mapping[str, Json] = {
        "name": "raw",
        "family": "raw",
        "kind": "generation",
        "instruction": "Answer {nothing} & <b>everything</b>.",
        "input": "Question: {question}",
        "output": "Answer: {target}",
        "metric": "exact_match",
    }
    write_task(write_collection(root / "tasks"), task, train=rows)
    build(BuildConfig(tasks=root / "tasks", out=root / "index", bm25=True), HashEncoder())
    return root / "index"


@pytest.fixture(scope="module")
def served(lexical: Path) -> Iterator[tuple[str, Retriever]]:
    with serving(lexical) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # As root, and in containers with little shared memory.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


Look = Callable[..., Page]


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Opens the page; in the end nothing in it may have failed, or asked another host."""
    contexts, wrong, asked = [], list[str](), set[str]()

    def look(address: str, *, start: str | None = None, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("console", lambda said: wrong.append(said.text) if "Security Policy" in said.text else None)
        page.on("request", lambda request: asked.add(re.sub(r"(://[^/]+/).*", r"\1", request.url)))
        if start:
            page.add_init_script(start)
        page.goto(address)
        return page

    yield look
    for context in contexts:
        context.close()
    assert wrong == []
    assert len(asked) <= 1, asked


def choose(page: Page, *inputs: str, **scope: str) -> None:
    page.locator("#scope").select_option(json.dumps(scope, separators=(",", ":")))
    for number, text in enumerate(inputs):
        page.locator(f"#field-{number}").fill(text)


def done(page: Page) -> None:
    """Wait for the answers, and for those to what was asked meanwhile."""
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false", timeout=WAIT)


def find(page: Page, *inputs: str, **scope: str) -> None:
    choose(page, *inputs, **scope)
    page.get_by_role("button", name="Find demonstrations").click()
    done(page)


def texts(page: Page, selector: str) -> list[str]:
    """The texts that the document holds, whatever the style makes of them."""
    return [found or "" for found in page.locator(selector).evaluate_all("all => all.map(one => one.textContent)")]


def ids(found: Retrieval) -> list[str]:
    return [one.id for one in found]


def test_an_input_finds_demonstrations_and_a_prompt(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    expect(page.get_by_text("4 tasks, 75 demonstrations")).to_be_visible()
    find(page, "a dull grey tuesday afternoon", task="notes")
    found = retriever.retrieve("notes", "a dull grey tuesday afternoon", 8)
    assert texts(page, "#dense code") == ids(found)
    assert texts(page, "#dense .badge") == [one.target for one in found]
    assert texts(page, "#dense .values dd") == [one.input["text"] for one in found]
    assert texts(page, "#dense .similarity") == [f"{one.similarity:.3f}" for one in found]
    widths = page.locator("#dense .bar span").evaluate_all("all => all.map(one => parseFloat(one.style.width))")
    assert widths == pytest.approx([100 * max(0, one.similarity) for one in found], abs=0.01)

    prompt = PromptBuilder(Words(), 1024, 16).build(retriever.tasks["notes"], "a dull grey tuesday afternoon", found)
    assert texts(page, "#prompt pre") == [prompt.text]
    assert texts(page, "#prompt .shown") == [one.text for one in reversed(found)]
    expect(page.locator("#tokens")).to_contain_text(f"{prompt.tokens} tokens of 1,008")
    expect(page.locator("#status")).to_have_text(
        f"8 demonstrations, 8 of them in the prompt of {prompt.tokens} tokens."
    )
    expect(page.locator("#timing")).to_have_text(re.compile(r"^[\d.]+ ms in the service: queue .*encode .*search "))

    page.locator("#format").select_option("messages")
    expect(page.locator("#prompt .message")).to_have_count(18)
    assert texts(page, "#prompt .message b")[:3] == ["system", "user", "assistant"]
    assert texts(page, "#prompt .message pre")[-1] == "Note: a dull grey tuesday afternoon\nMood:"


def test_tasks_families_and_all_are_switched_between(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    find(page, "chair", "fine thing indeed", task="reviews")
    assert texts(page, "#fields label") == ["thing", "text"]
    assert texts(page, "#dense code") == ids(
        retriever.retrieve("reviews", {"thing": "chair", "text": "fine thing indeed"})
    )
    expect(page.locator("#instruction")).to_have_text("Give the mood of the review.")

    find(page, "a dull lamp", family="mood")
    assert texts(page, "#fields label") == ["text"]
    expect(page.locator("#instruction")).to_have_text("Give the mood of the text.")
    found = retriever.retrieve(family="mood", input="a dull lamp")
    assert texts(page, "#dense code") == ids(found)
    assert texts(page, "#dense .foot span:first-of-type") == [one.task for one in found]
    expect(page.locator("#prompt-section")).to_be_hidden()
    expect(page.locator("#prompt-controls")).to_be_hidden()

    # What was typed stays, and is asked again.
    choose(page, scope="all")
    expect(page.locator("#field-0")).to_have_value("a dull lamp")
    expect(page.locator("#about")).to_have_text("notes, questions, raw, reviews")
    done(page)
    everything = ids(retriever.retrieve(scope="all", input="a dull lamp"))
    expect(page.locator("#dense code")).to_have_text(everything)
    choose(page, task="reviews")
    expect(page.locator("#field-1")).to_have_value("fine thing indeed")
    expect(page.locator("#prompt-section")).to_be_visible()


def test_bm25_stands_beside_the_retriever(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    find(page, "Who owns the old harbour?", task="questions")
    dense = ids(retriever.retrieve("questions", "Who owns the old harbour?"))
    words = retriever.retrieve("questions", "Who owns the old harbour?", mode="bm25")
    assert texts(page, "#beside-list code") == ids(words)
    assert texts(page, "#beside-list .similarity") == [f"{one.similarity:.3f}" for one in words]
    notes = [f"the retriever's number {dense.index(id) + 1}" if id in dense else "only here" for id in ids(words)]
    assert texts(page, "#beside-list .note") == notes
    columns = [page.locator(f"#{name}").bounding_box() for name in ("dense", "beside-list")]
    assert columns[0] and columns[1] and columns[0]["x"] + columns[0]["width"] < columns[1]["x"]

    page.locator("#beside").select_option("hybrid")
    fused = ids(retriever.retrieve("questions", "Who owns the old harbour?", mode="hybrid"))
    expect(page.locator("#beside-list code")).to_have_text(fused)
    page.locator("#beside").select_option("")
    expect(page.locator("#beside-column")).to_be_hidden()
    page.locator("#beside").select_option("bm25")
    assert 0 < len(retriever.retrieve("questions", "harbour", mode="bm25")) < 8
    find(page, "harbour", task="questions")
    expect(page.locator("#beside-list li").last).to_have_text("No other shares a word with the input.")
    find(page, "zzz", task="questions")
    expect(page.locator("#beside-list")).to_have_text("No demonstration shares a word with the input.")


def test_an_index_without_bm25_says_so_in_place_of_the_column(look: Look, index: Path) -> None:
    with serving(index) as (address, _):
        page = look(address)
        find(page, "a dull day", task="notes")
        expect(page.locator("#beside-note")).to_have_text(
            "No column for BM25: mode 'bm25' needs an index with BM25; run: udr index build --bm25."
        )
        expect(page.locator("#beside-column")).to_be_hidden()
        expect(page.locator("#dense li")).to_have_count(8)
        assert 'mode="bm25"' not in texts(page, "#python")[0]


def explained(page: Page) -> list[tuple[str, ...]]:
    """Open what tells why; return its rows: outcome, id, similarity, stage, reason."""
    page.locator("#why > summary").click()
    expect(page.locator("#why-rows tr").first).to_be_visible()
    done(page)
    cells = "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    return [tuple(map(str, row)) for row in page.locator("#why-rows tr").evaluate_all(cells)]


def test_what_is_left_out_says_why(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    query = {"thing": "chair", "text": "broke on monday morning"}
    every = retriever.retrieve("reviews", query, 18)
    least, budget = every[9].similarity, 38
    near = retriever.retrieve("reviews", query, 18, min_similarity=least, explain=True)
    prompt = PromptBuilder(Words(), budget, 4).build(retriever.tasks["reviews"], query, near)
    assert 0 < len(prompt.demonstrations) < len(near) < len(every) == 18

    page.locator("#k").fill("18")
    page.locator("#min_similarity").fill(str(least))
    page.locator("#budget").fill(str(budget))
    page.locator("#reserve").fill("4")
    # Changing the task makes k fit it; what was typed for it is kept.
    find(page, *query.values(), task="reviews")
    assert texts(page, "#dense code") == ids(near)
    shown = {one.id: one.tokens for one in prompt.demonstrations}
    left = budget - 4 - prompt.tokens
    for note, one in zip(texts(page, "#dense .note"), near, strict=True):
        if one.id in shown:
            assert note == f"in the prompt, {shown[one.id]} tokens"
        else:
            assert re.fullmatch(r"left out: (does not fit the \d+ tokens? left|no token is left)", note)
    assert [left] == sorted(
        {int(n) for n in re.findall(r"the (\d+) token", " ".join(texts(page, "#dense .out .note")))}
    )
    expect(page.locator("#dense .out")).to_have_count(len(near) - len(shown))
    assert texts(page, "#dropped li") == [
        f"{len(near) - len(shown)} of {len(near)} left out of the prompt: the budget has no room for them.",
        f"18 were asked for, {len(near)} are there; “Why” below says what left the others out.",
    ]
    assert texts(page, "#prompt pre") == [prompt.text]

    expect(page.locator("#why-table")).to_be_hidden()
    rows = explained(page)
    assert len(rows) == len(prompt.decisions) == 18
    outcomes = {"min_similarity": "–not similar enough", "budget": "–over the budget", "choice": "✓in the prompt"}
    for row, told in zip(rows, prompt.decisions, strict=True):
        assert row == (outcomes[told.stage], told.id, f"{told.similarity:.3f}", told.stage, told.reason)
    assert {row[1] for row in rows if row[0] == "✓in the prompt"} == set(shown)
    expect(page.locator("#why-rows .kept")).to_have_count(len(shown))
    expect(page.locator("#why-counts")).to_have_text(
        f"18 candidates: in the prompt {len(shown)}, over the budget {len(near) - len(shown)}, "
        f"not similar enough {18 - len(near)}."
    )

    # It stays open; without a prompt it tells of the choice.
    page.locator("#min_similarity").fill("")
    page.locator("#budget").fill("5")
    find(page, "kettle", "works every day", task="reviews")
    decisions = retriever.retrieve(
        "reviews", {"thing": "kettle", "text": "works every day"}, 18, explain=True
    ).decisions
    assert texts(page, "#why-rows .reason") == [one.reason for one in decisions]
    expect(page.locator("#why-counts")).to_have_text("18 candidates: copy of the input 2, chosen 16.")


def test_demonstrations_are_chosen_as_the_controls_say(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    text = "Who owns the old harbour by the river?"
    find(page, text, task="questions")
    page.locator("#more-choice > summary").click()
    for option, value in (("diversity", 0.4), ("distinct", 0.9), ("max_similarity", 0.8), ("candidates", 9)):
        page.locator(f"#{option}").fill(str(value))
        page.locator(f"#{option}").blur()
        expect(page.locator("#python")).to_contain_text(f"{option}={value}")
        done(page)
        expected = ids(retriever.retrieve("questions", text, **{option: value}))  # type: ignore[arg-type]
        assert texts(page, "#dense code") == expected
        assert expected != ids(retriever.retrieve("questions", text)) or option == "candidates"
        page.locator(f"#{option}").fill("")
    page.locator("#balance").check()
    expect(page.locator("#python")).to_contain_text("balance=True")
    done(page)
    assert texts(page, "#dense code") == ids(retriever.retrieve("questions", text, balance=True))
    page.locator("#balance").uncheck()
    page.locator("#keep_copies").check()
    find(page, "Who owns the river?", task="questions")
    found = retriever.retrieve("questions", "Who owns the river?", keep_copies=True)
    assert texts(page, "#dense code") == ids(found) and found[0].input == {"question": "Who owns the river?"}
    by_words = retriever.retrieve("questions", "Who owns the river?", keep_copies=True, mode="bm25")
    assert texts(page, "#beside-list code") == ids(by_words)


def test_an_option_that_does_not_apply_is_neither_shown_nor_asked_for(
    look: Look, served: tuple[str, Retriever]
) -> None:
    page = look(served[0])
    find(page, "a dull day", task="notes")
    page.locator("#more-choice > summary").click()
    page.locator("#more-building > summary").click()
    page.locator("#balance").check()
    page.locator("#list_options").check()
    for control in ("seed", "layout"):
        expect(page.locator(f"#{control}")).to_be_hidden()
    page.locator("#order").select_option("shuffle")
    page.locator("#seed").fill("7")
    page.locator("#format").select_option("messages")
    page.locator("#layout").select_option("system")
    expect(page.locator("#python")).to_contain_text('layout="system"')
    done(page)
    for said in ("seed=7", "balance=True", "list_options=True"):
        expect(page.locator("#python")).to_contain_text(said)
    page.locator("#more-choice > summary").click()
    expect(page.locator("#more-choice-said")).to_have_text("Balance the labels")
    expect(page.locator("#more-building-said")).to_have_text(
        "Order shuffled, Seed 7, Demonstrations in the system message, List the options"
    )

    page.locator("#order").select_option("nearest_last")
    page.locator("#format").select_option("text")
    find(page, "what", task="raw")
    for control in ("balance", "list_options", "seed", "layout"):
        expect(page.locator(f"#{control}")).to_be_hidden()
        assert f"{control}=" not in texts(page, "#python")[0]
    expect(page.locator("#more-choice-said")).to_have_text("")
    # Every task of this family has labels.
    find(page, "a dull day", family="mood")
    assert "balance=True" in texts(page, "#python")[0]


def test_a_prompt_is_built_as_the_controls_say(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    task, text = retriever.tasks["questions"], "Who owns the old harbour?"
    found = retriever.retrieve("questions", text)
    find(page, text, task="questions")
    page.locator("#more-building > summary").click()
    page.locator("#list_options").check()
    for order in Order:
        page.locator("#order").select_option(order)
        built = PromptBuilder(Words(), 1024, 16, order=order, list_options=True).build(task, text, found)
        expect(page.locator("#prompt pre")).to_have_text(built.text or "", use_inner_text=False)
        done(page)
        texts_of = {one.id: one.text for one in found}
        assert texts(page, "#prompt .shown") == [texts_of[one.id] for one in built.demonstrations]
        assert texts(page, "#prompt .instruction") == [
            f"{task.instruction}\nOptions:\n- place\n- person\n- number",
        ]
        assert texts(page, "#prompt .query") == [f"Question: {text}\nAnswer type:"]
    page.locator("#format").select_option("messages")
    page.locator("#layout").select_option("system")
    expect(page.locator("#prompt .message")).to_have_count(2)
    page.locator("#format").select_option("records")
    expect(page.locator("#prompt .message")).to_have_count(0)
    done(page)
    records = json.loads(texts(page, "#prompt pre")[0])
    assert sorted(one["question"] for one in records) == sorted(str(one.input["question"]) for one in found)
    assert {one["target"] for one in records} <= set(task.labels)


def test_what_was_cut_and_what_reads_as_special_tokens_is_said(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    page.locator("#k").fill(str(len(NAUGHTY)))
    page.locator("#k").blur()
    find(page, "a <s> day", task="raw")
    prompt = PromptBuilder(Marked(), 1024, 16).build(
        retriever.tasks["raw"], "a <s> day", retriever.retrieve("raw", "a <s> day", len(NAUGHTY))
    )
    named: dict[str, list[str]] = {}
    for one in prompt.special_tokens:
        named.setdefault(one.token, []).append("the input" if one.id is None else one.id)
    assert set(named) == {"<s>", "[SEP]"} and "the input" in named["<s>"]
    assert texts(page, "#remarks li") == [
        f"The tokenizer reads {token} as a special token; it was left as it is in {', '.join(places)}."
        for token, places in named.items()
    ]

    long = "a dull grey day " * 20
    page.locator("#budget").fill("50")
    find(page, long, task="notes")
    expect(page.locator("#budget-error")).to_contain_text("without any demonstration")
    page.locator("#more-building > summary").click()
    page.locator("#truncate").select_option("text")
    expect(page.locator("#prompt-body")).to_be_visible()
    done(page)
    cut = PromptBuilder(Words(), 50, 16, truncate="text").build(
        retriever.tasks["notes"], long, retriever.retrieve("notes", long)
    )
    assert cut.truncated is not None and texts(page, "#prompt pre") == [cut.text]
    assert texts(page, "#remarks li") == [
        f"The input was cut to fit: of text, the prompt shows the first {cut.truncated.kept} of its 320 characters."
    ]


def test_an_error_about_what_is_folded_unfolds_it(look: Look, served: tuple[str, Retriever]) -> None:
    page = look(served[0])
    for control, value, words in (
        ("diversity", "1.5", "less than or equal to 1"),
        ("distinct", "-1", "greater than or equal to 0"),
        ("candidates", "3", "not below k (8)"),
        ("candidates", "2000", "at most 1024, the limit"),
        ("seed", "0.5", "valid integer"),
    ):
        fold = "more-building" if control == "seed" else "more-choice"
        page.locator(f"#{fold}").evaluate("one => (one.open = true)")
        page.locator("#order").evaluate("(one, value) => (one.value = value)", "shuffle")
        page.locator("#order").dispatch_event("change")
        page.locator(f"#{control}").fill(value)
        page.locator(f"#{fold}").evaluate("one => (one.open = false)")
        find(page, "a dull day", task="notes")
        expect(page.locator(f"#{control}-error")).to_contain_text(words)
        expect(page.locator(f"#{control}")).to_be_focused()
        page.locator(f"#{control}").fill("")


def test_an_error_stands_beside_what_it_is_about(look: Look, served: tuple[str, Retriever]) -> None:
    page = look(served[0])
    page.get_by_role("button", name="Find demonstrations").click()
    expect(page.locator("#input-error")).to_have_text("Type an input, or take an example.")
    expect(page.locator("#field-0")).to_be_focused()

    for control, value, words in (
        ("k", "0", "must be greater than or equal to 1"),
        ("k", "21", "k must be from 1 to 20"),
        ("k", "9999", "k must be at most 256"),
        ("k", "", "must be a valid integer"),
        ("k", "1.5", "must be a valid integer"),
        ("budget", "999999", "the budget must be at most 131072 tokens"),
        ("budget", "3", "the reserve must be at least 0 and below the budget"),
        ("budget", "18", "the prompt needs"),
        ("reserve", "-1", "must be greater than or equal to 0"),
    ):
        find(page, "a dull day", task="notes")
        assert "".join(texts(page, "#form .error")) == ""
        before = page.locator(f"#{control}").input_value()
        page.locator(f"#{control}").fill(value)
        page.get_by_role("button", name="Find demonstrations").click()
        about = "reserve" if "the reserve" in words else control
        expect(page.locator(f"#{about}-error")).to_contain_text(words)
        expect(page.locator(f"#{about}")).to_have_attribute("aria-invalid", "true")
        expect(page.locator(f"#{about}")).to_be_focused()
        said = page.locator("#status" if control == "k" else "#prompt-note")
        expect(said).to_contain_text(words)
        expect(page.locator("#found")).to_be_visible(visible=control != "k")
        page.locator(f"#{control}").fill(before)

    find(page, "x" * 40_000, task="notes")
    expect(page.locator("#input-error")).to_contain_text("the limit is 32768")
    find(page, "a dull day", task="notes")
    expect(page.locator("#field-0")).not_to_have_attribute("aria-invalid", "true")


def test_it_says_when_nothing_answers_and_goes_on_when_something_does(
    look: Look, served: tuple[str, Retriever]
) -> None:
    page = look(served[0])
    find(page, "a dull day", task="notes")
    page.route("**/v1/*", lambda route: route.abort())
    find(page, "a fine day", task="notes")
    expect(page.locator("#status")).to_contain_text("cannot be reached; does the service still run?")
    page.unroute_all()
    page.route(
        "**/v1/*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>", content_type="text/html")
    )
    find(page, "a fine day", task="notes")
    expect(page.locator("#status")).to_contain_text("HTTP 502: what answered does not speak as udr does")
    page.unroute_all()
    find(page, "a fine day", task="notes")
    expect(page.locator("#dense li")).to_have_count(8)


def test_it_waits_for_a_service_that_is_loading(look: Look, served: tuple[str, Retriever]) -> None:
    page = look("about:blank")
    problem = {"type": "urn:udr:problem:not-ready", "title": "Not ready", "status": 503, "detail": "it is loading"}
    body = json.dumps({**problem, "instance": "/v1/info"})

    def refuse(route: Route) -> None:
        route.fulfill(status=503, body=body, content_type="application/problem+json")

    page.route("**/v1/info", refuse, times=1)
    page.goto(served[0])
    expect(page.locator("#load-error")).to_have_text("Not ready: it is loading")
    expect(page.locator("#main")).to_be_hidden()
    expect(page.locator("#main")).to_be_visible()
    expect(page.locator("#load-error")).to_be_hidden()


SLOW = """
const send = window.fetch;
window.fetch = async (...all) => {
  if (String(all[1]?.body).includes("slow")) await new Promise((done) => setTimeout(done, 400));
  return send(...all);
};
"""


def test_an_answer_that_comes_late_is_not_shown(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address, start=SLOW)
    choose(page, "a slow monday", task="notes")
    page.locator("#field-0").press("Control+Enter")
    find(page, "i sang", task="notes")
    page.wait_for_timeout(600)
    assert texts(page, "#dense code") == ids(retriever.retrieve("notes", "i sang"))
    assert "slow" not in texts(page, "#curl")[0]


def test_the_keyboard_is_enough(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address, permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator("#main")).to_be_visible()

    def press(*names: str) -> str:
        for name in names:
            page.keyboard.press(name)
        # A summary is known by what it folds.
        return str(page.evaluate("document.activeElement.id || document.activeElement.parentElement.id"))

    assert press("Tab") == "scope"
    page.keyboard.type("questions")
    assert press("Tab") == "field-0"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.type("Where is the boat?")
    press("Enter")
    page.keyboard.type("And why?")
    press("Control+Enter")
    done(page)
    assert texts(page, "#dense code") == ids(retriever.retrieve("questions", "Where is the boat?\nAnd why?"))
    order = [press("Tab") for _ in range(10)]
    assert order[:6] == ["ask", "example", "k", "min_similarity", "beside", "more-choice"]
    assert order[6:] == ["budget", "reserve", "format", "more-building"]
    assert press("Tab") == "why"
    press("Enter")
    expect(page.locator("#why-rows tr").first).to_be_visible()
    done(page)
    assert press("Tab") == "why-table"
    press("ArrowDown")
    expect(page.locator("#why-table")).not_to_have_js_property("scrollTop", 0)
    assert [press("Tab") for _ in range(6)] == ["copy-prompt", "prompt", "copy-curl", "curl", "copy-python", "python"]
    assert press("Shift+Tab") == "copy-python"
    press("Enter")
    expect(page.locator("#copy-python")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == texts(page, "#python")[0]
    expect(page.locator("#copy-python")).to_have_text("Copy")


def test_it_copies_where_the_clipboard_is_withheld(look: Look, served: tuple[str, Retriever]) -> None:
    """As over plain HTTP from another machine."""
    page = look(served[0], start="delete Navigator.prototype.clipboard")
    find(page, "a dull day", task="notes")
    page.evaluate("document.addEventListener('copy', () => { window.taken = String(document.getSelection()) })")
    page.locator("#copy-prompt").click()
    expect(page.locator("#copy-prompt")).to_have_text("Copied")
    expect(page.locator("#copy-prompt")).to_be_focused()
    assert page.evaluate("window.taken") == texts(page, "#prompt pre")[0]


def luminance(colour: str) -> float:
    """The relative luminance of WCAG, of ``rgb(…)`` or ``color(srgb …)``."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", colour)][:3]
    parts = numbers if colour.startswith("color(") else [number / 255 for number in numbers]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


COLOURS = """one => {
  const back = (of) => {
    const found = getComputedStyle(of).backgroundColor;
    return found !== "rgba(0, 0, 0, 0)" ? found : of.parentElement ? back(of.parentElement) : "rgb(255, 255, 255)";
  };
  return [getComputedStyle(one).color, back(one)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(look: Look, served: tuple[str, Retriever], scheme: str) -> None:
    page = look(served[0], color_scheme=scheme)
    find(page, "a dull day", task="notes")
    assert (luminance(page.locator("body").evaluate(COLOURS)[1]) > 0.5) == (scheme == "light")
    page.locator("#budget").fill("3")
    page.get_by_role("button", name="Find demonstrations").click()
    expect(page.locator("#reserve-error")).not_to_be_empty()
    page.locator("#budget").fill("40")
    page.locator("#more-choice > summary").click()
    assert {row[3] for row in explained(page)} >= {"choice", "budget"}
    seen = [".more > summary", ".tip", ".check label", "thead th", "#why-counts", ".left .reason", ".kept .outcome"]
    seen += [".kept .reason", ".budget .outcome"]
    seen += ["body", "#served", "#about", ".hint", "#reserve-error", "#ask", "#example", "#k", "#dense .rank", ".foot"]
    for selector in [*seen, "#dense .badge.tone-0", "#dense .badge.tone-1", ".similarity", "#timing", "footer a"]:
        colours = page.locator(selector).first.evaluate(COLOURS)
        assert contrast(*colours) >= 4.5, (selector, colours)


def widest(page: Page) -> Sequence[int]:
    found = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("width", [320, 360, 700, 900])
def test_nothing_is_wider_than_the_screen(look: Look, served: tuple[str, Retriever], width: int) -> None:
    page = look(served[0], viewport={"width": width, "height": 740}, has_touch=True)
    expect(page.locator("#main")).to_be_visible()
    assert widest(page) == [width, width]
    page.locator("#k").fill(str(len(NAUGHTY)))
    page.locator("#k").blur()
    find(page, "w" * 300, task="raw")
    expect(page.locator("#dense li")).to_have_count(len(NAUGHTY))
    assert widest(page) == [width, width]
    page.locator("#more-choice > summary").click()
    page.locator("#more-building > summary").click()
    assert len(explained(page)) == len(NAUGHTY)
    assert widest(page) == [width, width]
    table = page.locator("#why-table").evaluate("one => [one.scrollWidth, one.clientWidth]")
    assert table[0] <= table[1], "a table is not scrolled sideways"
    page.locator("#budget").fill("1")
    page.locator("#ask").click()
    expect(page.locator("#reserve-error")).not_to_be_empty()
    assert widest(page) == [width, width]
    page.locator("#budget").fill("900")
    find(page, "chair", "broke", task="reviews")
    expect(page.locator("#dense li")).to_have_count(13)
    if width < 400:
        # The answers are below the form: they are brought into sight.
        expect(page.locator("#status")).to_be_in_viewport()
        sizes = page.locator("#ask, #example, #scope, #k").evaluate_all("all => all.map(one => one.offsetHeight)")
        assert min(sizes) >= 40, "for a finger"


def test_hostile_data_is_shown_as_it_is(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    page.locator("#k").fill(str(len(NAUGHTY)))
    page.locator("#k").blur()
    before = page.locator("script, img, iframe, b").count()
    for text in ["<script>alert('x')</script>", "<img src=x onerror=alert(1)> {question} \"q\" 'a' \\", "</textarea>"]:
        find(page, f"{text} again", task="raw")
        found = retriever.retrieve("raw", f"{text} again", len(NAUGHTY))
        assert texts(page, "#dense .values dd") == [one.input["question"] for one in found]
        assert texts(page, "#dense .target bdi") == [one.target for one in found]
        assert texts(page, "#dense code") == ids(found)
        prompt = PromptBuilder(Words(), 1024, 16).build(retriever.tasks["raw"], f"{text} again", found)
        assert texts(page, "#prompt pre") == [prompt.text]
        expect(page.locator("#instruction")).to_have_text("Answer {nothing} & <b>everything</b>.")
        assert page.locator("script, img, iframe, b").count() == before
    assert sorted(row[1] for row in explained(page)) == sorted(ids(found))
    assert page.locator("script, img, iframe, b").count() == before
    page.locator("#format").select_option("messages")
    expect(page.locator("#prompt .message")).to_have_count(2 + 2 * len(prompt.demonstrations))
    assert set(NAUGHTY) >= set(texts(page, "#prompt .message.assistant pre"))


@pytest.mark.parametrize("text", ['it\'s a "day"\n\\ $HOME `id` !x', "é 🙂 \u202e\u2028\x7f {x}", "%s <s> &"])
def test_the_lines_of_code_ask_for_what_is_on_the_screen(look: Look, served: tuple[str, Retriever], text: str) -> None:
    address, retriever = served
    page = look(address)
    page.locator("#min_similarity").fill("0.05")
    page.locator("#budget").fill("60")
    find(page, "lamp", text, task="reviews")
    page.locator("#order").evaluate("one => (one.value = 'alternate_labels')")
    page.locator("#diversity").evaluate("one => (one.value = '0.25')")
    page.locator("#balance").evaluate("one => (one.checked = true)")
    page.locator("#why > summary").click()
    expect(page.locator("#python")).to_contain_text("explain=True")
    done(page)
    kept = texts(page, "#dense code")
    program = texts(page, "#python")[0]
    names: dict[str, Any] = {}
    exec(program, names)
    assert ids(names["found"]) == kept
    assert ids(names["by_words"]) == texts(page, "#beside-list code")
    assert [names["prompt"].text] == texts(page, "#prompt pre")
    assert [one.reason for one in names["prompt"].decisions] == texts(page, "#why-rows .reason")
    for said in ('order="alternate_labels"', "diversity=0.25", "balance=True"):
        assert said in program
    for default in ("distinct", "keep_copies", "candidates", "seed", "layout", "format", "truncate", "list_options"):
        assert f"{default}=" not in program
    assert "\u202e" not in program, "text that is turned around would hide what is run"

    commands = [shlex.split(line) for line in texts(page, "#curl")[0].replace("\\\n", "").split("\n\n")]
    answers = []
    for curl, silent, url, _, header, _, body in commands:
        assert (curl, silent, header) == ("curl", "-s", "Content-Type: application/json")
        answers.append(httpx2.post(url, content=body, headers={"Content-Type": "application/json"}).json())
    assert answers[0] == names["found"].to_json()
    assert answers[2]["prompt"] == names["prompt"].text

    page.locator("#why > summary").click()
    find(page, text, family="mood")
    exec(texts(page, "#python")[0], names)
    options: SelectionOptions = {"min_similarity": 0.05, "diversity": 0.25, "balance": True}
    assert names["found"] == retriever.retrieve(family="mood", input=text, **options)


def test_an_example_is_a_demonstration_that_does_not_find_itself(look: Look, served: tuple[str, Retriever]) -> None:
    address, retriever = served
    page = look(address)
    for scope in ({"task": "questions"}, {"task": "reviews"}, {"family": "mood"}, {"scope": "all"}):
        choose(page, **scope)
        page.locator("#gold").evaluate("one => one.replaceChildren()")
        page.get_by_role("button", name="An example").click()
        expect(page.locator("#gold code")).to_be_visible()
        expect(page.locator("#dense code").first).to_be_visible()
        done(page)
        (gold,) = texts(page, "#gold code")
        row = next(retriever.demonstration(task, gold) for task in retriever.tasks if gold in ids_of(retriever, task))
        if "task" in scope:
            values = [page.locator(f"#field-{n}").input_value() for n in range(len(row.input))]
            assert values == list(row.input.values())
        expect(page.locator("#gold")).to_contain_text(one_line(row.target)[:20])
        assert gold not in texts(page, "#dense code")
    page.locator("#field-0").press_sequentially("x")
    expect(page.locator("#gold")).to_be_hidden()
    expect(page.locator("#status")).to_have_text("The input has changed since; ask again.")


def ids_of(retriever: Retriever, task: str) -> list[str]:
    return ids(retriever.retrieve(task, dict.fromkeys(retriever.tasks[task].fields, "x"), retriever.sizes[task]))


def test_a_key_is_asked_for_kept_in_the_tab_and_never_shown(look: Look, index: Path, tmp_path: Path) -> None:
    key, entry = keys.new_key("reader", KeyScope.READ)
    keys.append(tmp_path / "keys.toml", entry)
    with serving(index, keys=tmp_path / "keys.toml") as (address, _):
        page = look(address)
        expect(page.locator("#key-form")).to_be_visible()
        expect(page.locator("#key")).to_be_focused()
        expect(page.locator("#main")).to_be_hidden()
        expect(page.locator("#key-error")).to_contain_text("none was given")
        for wrong, words in (("a b é", "no blanks"), ("udr_wrong", "this one is not known")):
            page.locator("#key").fill(wrong)
            page.keyboard.press("Enter")
            expect(page.locator("#key-error")).to_contain_text(words)
        page.locator("#key").fill(f" {key} ")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_hidden()
        find(page, "a dull day", task="notes")
        expect(page.locator("#dense li")).to_have_count(8)
        assert key not in page.content() and "$UDR_API_KEY" in texts(page, "#curl")[0]
        stored = page.evaluate("[{...sessionStorage}, {...localStorage}, document.cookie, location.href]")
        assert stored == [{"udr-api-key": key}, {}, "", address]

        page.reload()
        expect(page.locator("#main")).to_be_visible()
        page.get_by_role("button", name="Forget the API key").click()
        assert page.evaluate("sessionStorage.length") == 0
        find(page, "a dull day", task="notes")
        expect(page.locator("#key-form")).to_be_visible()
        page.locator("#key").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#dense li")).to_have_count(8)


def test_it_works_behind_a_proxy_with_a_prefix(look: Look, index: Path) -> None:
    def behind(app: ASGIApp) -> ASGIApp:
        async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                assert scope["path"].startswith("/some/prefix/"), scope["path"]
                path = scope["path"].removeprefix("/some/prefix")
                scope = {**scope, "path": path, "raw_path": path.encode()}
            await app(scope, receive, send)

        return proxy

    with serving(index, wrap=behind) as (address, retriever):
        page = look(f"{address}some/prefix/")
        find(page, "a dull day", task="notes")
        expect(page.locator("#dense li")).to_have_count(8)
        names: dict[str, Any] = {}
        program = texts(page, "#python")[0]
        assert f"{address}some/prefix" in program and f"{address}some/prefix/v1/retrieve" in texts(page, "#curl")[0]
        exec(program, names)
        assert names["found"] == retriever.retrieve("notes", {"text": "a dull day"})
        with Client(f"{address}some/prefix") as client:
            assert client.retrieve("notes", "a dull day") == names["found"]
