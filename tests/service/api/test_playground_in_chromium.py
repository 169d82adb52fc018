"""The playground in a real browser: what its scripts and styles do."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.fakes import QUESTIONS, HashEncoder, write_collection, write_task
from tests.service.api.chromium import Look, fill, find, needs_chromium, select, texts, wait
from tests.service.api.test_retrieval import HOSTILE, id_of
from tests.service.conftest import Words
from tests.service.running import running
from udr.prompts import PromptBuilder
from udr.retrieval import Retrieval, Retriever
from udr.types import Json
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key

NAUGHTY = [*HOSTILE, "<img src=x onerror=alert(1)>", "`${alert(1)}`", 'it\'s "quoted" \\', "w" * 500]
REVIEW = {"thing": "chair", "text": "broke on monday morning"}
Playground = tuple[str, Retriever]
pytestmark = needs_chromium


class Marked(Words):
    """Counts words, and reads two texts as special tokens."""

    special_tokens = ("[SEP]", "<s>")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """A service with BM25 over the small collection and a task of hostile data; its address and retriever."""
    root = tmp_path_factory.mktemp("playground")
    rows: list[Mapping[str, Json]] = [
        {"id": f"{n}/{id_of(text)}", "input": {"question": text}, "target": text} for n, text in enumerate(NAUGHTY)
    ]
    task: dict[str, Json] = {"name": "raw", "family": "raw", "kind": "generation", "metric": "exact_match"}
    task |= {"instruction": "Answer {nothing}.", "input": QUESTIONS["input"], "output": "Answer: {target}"}
    write_task(write_collection(root / "tasks"), task, train=rows)
    build(BuildConfig(tasks=root / "tasks", out=root / "index", bm25=True), HashEncoder())
    with Retriever.open(root / "index", encoder=HashEncoder()) as retriever:
        with running(create_app(retriever, Settings(), Marked())) as address:
            yield f"{address}/", retriever


def unfold(page: Page) -> None:
    """Open all details, and wait for the explanation of the candidates."""
    page.locator("details").evaluate_all("all => all.forEach(item => { item.open = true })")
    expect(page.locator("#candidate-table")).to_be_visible()
    wait(page)


def ids(retrieval: Retrieval) -> list[str]:
    return [item.id for item in retrieval]


def bodies(page: Page) -> list[Any]:
    """The bodies of the requests that the page sent last, as its curl commands show them."""
    return [json.loads(shlex.split(line)[-1]) for line in texts(page, "#curl")[0].replace("\\\n", "").split("\n\n")]


def test_search_shows_demonstrations_and_prompt(look: Look, served: Playground) -> None:
    address, retriever = served
    page = look(address)
    expect(page.get_by_text("4 tasks, 75 demonstrations")).to_be_visible()
    # It opens with an example answered: the first row of the first task.
    task = retriever.tasks[json.loads(page.locator("#scope").input_value())["task"]]
    first = retriever.demonstrations(task.name, limit=1).rows[0]
    expect(page.locator("#gold code")).to_have_text(first.id)
    wait(page)
    assert texts(page, "#dense code") == ids(retriever.retrieve(task.name, first.input, 8))
    find(page, "a dull grey tuesday", task="notes")
    expected, task = retriever.retrieve("notes", "a dull grey tuesday", 8), retriever.tasks["notes"]
    assert texts(page, "#dense code") == ids(expected)
    assert texts(page, "#dense .badge") == [item.target for item in expected]
    assert texts(page, "#dense .similarity") == [f"{item.similarity:.3f}" for item in expected]
    widths = page.locator("#dense .bar span").evaluate_all("all => all.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx([100 * max(0, item.similarity) for item in expected], abs=0.01)
    prompt = PromptBuilder(Words(), 2000, 20).build(task, "a dull grey tuesday", expected)
    assert texts(page, "#prompt pre") == [prompt.text]
    assert texts(page, "#prompt :is(.instruction, .query)") == [task.instruction, "Note: a dull grey tuesday\nMood:"]
    assert texts(page, "#prompt .shown") == [item.text for item in reversed(expected)]
    expect(page.locator("#status")).to_contain_text(f"8 of them in the prompt of {prompt.tokens} tokens.")
    expect(page.locator("#timing")).to_contain_text("ms in the service: queue ")
    words = ids(retriever.retrieve("notes", "a dull grey tuesday", mode="bm25"))
    assert texts(page, "#beside code") == words
    ranks = {id: f"retriever's rank {rank}" for rank, id in enumerate(ids(expected), 1)}
    assert texts(page, "#beside .note") == [ranks.get(id, "only here") for id in words]
    left, right = (page.locator(f"#{name}").bounding_box() for name in ("dense", "beside"))
    assert left and right and left["x"] + left["width"] < right["x"]
    fill(page, format="records", mode="")
    assert len(json.loads(texts(page, "#prompt pre")[0])) == 8
    expect(page.locator("#beside-column")).to_be_hidden()


def test_switching_the_scope_keeps_what_was_typed(look: Look, served: Playground) -> None:
    address, retriever = served
    page = look(address)
    find(page, *REVIEW.values(), task="reviews")
    find(page, "a dull lamp", family="mood")
    expected = retriever.retrieve(family="mood", input="a dull lamp")
    assert texts(page, "#dense code") == ids(expected)
    assert texts(page, "#dense .foot span:first-of-type") == [item.task for item in expected]
    expect(page.locator("#prompt-section:visible, #prompt-controls:visible")).to_have_count(0)
    select(page, scope="all")
    assert texts(page, "#dense code") == ids(retriever.retrieve(scope="all", input="a dull lamp"))
    select(page, task="reviews")
    assert texts(page, "#fields label") == ["thing", "text"]
    assert texts(page, "#dense code") == ids(retriever.retrieve("reviews", REVIEW))


def test_candidates_explain_what_is_left_out(look: Look, served: Playground) -> None:
    address, retriever = served
    page = look(address)
    near = retriever.retrieve("reviews", REVIEW, 18)[9].similarity
    expected = retriever.retrieve("reviews", REVIEW, 18, min_similarity=near, explain=True)
    prompt = PromptBuilder(Words(), 38, 4).build(retriever.tasks["reviews"], REVIEW, expected)
    shown = {item.id: f"in the prompt, {item.tokens} tokens" for item in prompt.demonstrations}
    left = 34 - prompt.tokens
    out = f"left out: does not fit the {left} token{'s' * (left != 1)} left" if left else "left out: no tokens left"
    assert 0 < len(shown) < len(expected) < 18
    # The task limits k, but what was typed is kept.
    fill(page, k=18, min_similarity=near, budget=38, reserve=4)
    find(page, *REVIEW.values(), task="reviews")
    assert texts(page, "#dense .note") == [shown.get(id, out) for id in ids(expected)]
    expect(page.locator("#shortfalls li")).to_have_count(2)
    unfold(page)
    outcomes = {"min_similarity": "–not similar enough", "budget": "–over the budget", "choice": "✓in the prompt"}
    rows = "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    assert page.locator("#candidate-rows tr").evaluate_all(rows) == [
        [outcomes[item.stage], item.id, f"{item.similarity:.3f}", item.stage, item.reason] for item in prompt.decisions
    ]


SELECTION: dict[str, object] = {"diversity": 0.4, "distinct": 0.9, "max_similarity": 0.95, "candidates": 9}
SELECTION |= {"balance": True, "keep_copies": True, "max_copy": 0.97, "fill": True}
BUILDING: dict[str, object] = {"order": "shuffle", "seed": 7, "format": "messages", "layout": "system"}
BUILDING |= {"truncate": "text", "list_options": True}


def test_the_code_repeats_what_the_controls_request(look: Look, served: Playground) -> None:
    page = look(served[0])
    text = 'it\'s a "day"\n\\ $HOME `id` !x é 🙂 \u202e\u2028\x7f {x}'
    find(page, "lamp", text, task="reviews")
    query: dict[str, object] = {"task": "reviews", "input": {"thing": "lamp", "text": text}, "k": 8}
    assert bodies(page) == [query, {**query, "mode": "bm25"}, {**query, "budget": 2000, "reserve": 20}]
    unfold(page)
    fill(page, **SELECTION, **BUILDING, without_head=True)
    retrieve, beside, prompt = bodies(page)
    assert beside == {**query, "mode": "bm25", "keep_copies": True, "label_head": False}
    assert retrieve == {**query, **SELECTION, "label_head": False, "explain": True}
    assert prompt == {**retrieve, "budget": 2000, "reserve": 20, **BUILDING}
    program, names = texts(page, "#python")[0], dict[str, Any]()
    assert "\u202e" not in program, "reversed text would hide what runs"
    exec(program, names)
    assert ids(names["retrieval"]) == texts(page, "#dense code")
    assert ids(names["bm25"]) == texts(page, "#beside code")
    assert [item["content"] for item in names["prompt"].messages] == texts(page, "#prompt .message pre")
    page.locator("#building > summary").click()
    listed = "Order shuffled, Seed 7, Demonstrations in the system message, Truncate text, List the labels"
    expect(page.locator("#building > summary small")).to_have_text(listed)
    # Options that do not apply are neither shown nor sent.
    unfold(page)
    fill(page, order="nearest_last", format="text")
    find(page, text, task="raw")
    assert not {"balance", "list_options", "seed", "layout", "truncate"} & bodies(page)[2].keys()
    expect(page.locator("#balance:visible, #list_options:visible, #seed:visible, #layout:visible")).to_have_count(0)


def test_messages_are_shown_beside_the_controls(look: Look, served: Playground) -> None:
    page = look(served[0])
    expect(page.locator("#retrieval")).to_be_visible()
    page.locator("#field-0").clear()
    page.locator("#search").click()
    expect(page.locator("#input-error")).to_have_text("Enter an input, or try an example.")
    expect(page.locator("#field-0")).to_be_focused()
    find(page, "a dull day", task="notes")
    # Candidates is in details, which open.
    for control, value, message in (
        ("k", "0", "must be greater than or equal to 1"),
        ("k", "", "must be a valid integer"),
        ("budget", "22", "the prompt needs"),
        ("reserve", "9999", "below the budget"),
        ("candidates", "3", "not below k (8)"),
    ):
        box, before = page.locator(f"#{control}"), page.locator(f"#{control}").input_value()
        box.evaluate("(box, value) => { box.value = value }", value)
        page.locator("#search").click()
        expect(page.locator(f"#{control}-error")).to_contain_text(message)
        expect(box).to_have_attribute("aria-invalid", "true")
        expect(box).to_be_focused()
        fill(page, **{control: before})
        expect(page.locator("#form .error")).to_have_count(0)


def test_the_page_recovers_from_failures(look: Look, served: Playground) -> None:
    page = look(served[0])
    problem = {"title": "Not ready", "status": 503, "detail": "it is loading"}
    page.route("**/v1/info", lambda route: route.fulfill(status=503, json=problem), times=1)
    page.reload()
    expect(page.locator("#load-error")).to_have_text("Not ready: it is loading")
    find(page, "a fine day", task="notes")
    page.route("**/v1/*", lambda route: route.abort())
    page.locator("#search").click()
    expect(page.locator("#status")).to_contain_text("is the service running?")
    page.route("**/v1/*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    page.locator("#search").click()
    expect(page.locator("#status")).to_contain_text("HTTP 502: the response is not from udr")
    # The next request cancels one that is not answered yet.
    page.unroute_all()
    page.route("**/v1/*", lambda route: None, times=3)
    page.locator("#search").click()
    find(page, "i lost it", task="notes")
    assert [body["input"]["text"] for body in bodies(page)] == ["i lost it"] * 3


def test_the_keyboard_reaches_everything(look: Look, served: Playground) -> None:
    page = look(served[0], permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator("#main")).to_be_visible()

    def tab(times: int) -> str:
        names = []
        for _ in range(times):
            page.keyboard.press("Tab")
            names.append(page.evaluate("document.activeElement.id || document.activeElement.parentElement.id"))
        return " ".join(names)

    assert tab(4) == "to-main to-rows scope field-0"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.type("What a fine day")
    page.keyboard.press("Control+Enter")
    wait(page)
    assert tab(10) == "search example k min_similarity mode selection budget reserve format building"
    assert tab(1) == "candidate-details"
    page.keyboard.press("Enter")
    expect(page.locator("#candidate-table")).to_be_visible()
    assert tab(3) == "copy-prompt copy-curl copy-python"
    page.keyboard.press("Enter")
    expect(page.locator("#copy-python")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == texts(page, "#python")[0]
    # As over plain HTTP from another machine.
    page.evaluate("delete Navigator.prototype.clipboard")
    page.evaluate("document.addEventListener('copy', () => { window.copied = String(document.getSelection()) })")
    page.locator("#copy-prompt").click()
    expect(page.locator("#copy-prompt")).to_have_text("Copied")
    expect(page.locator("#copy-prompt")).to_be_focused()
    assert page.evaluate("window.copied") == texts(page, "#prompt pre")[0]


def test_a_status_is_written_when_it_changes(look: Look, served: Playground) -> None:
    """A screen reader reads a live region out each time that it is written."""
    page = look(served[0])
    find(page, "a fine day", task="notes")
    count = "new MutationObserver(changes => { window.writes += changes.length })"
    page.evaluate(f"window.writes = 0; {count}.observe(document.getElementById('status'), {{childList: true}})")
    page.locator("#field-0").press_sequentially(" or two")
    expect(page.locator("#status")).to_have_text("The input has changed; search again.")
    assert page.evaluate("window.writes") == 1


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (700, "dark"), (900, "dark")])
def test_nothing_is_wider_than_the_screen(look: Look, served: Playground, width: int, scheme: str) -> None:
    page = look(served[0], width, has_touch=True, color_scheme=scheme)
    back = {"light": "rgb(255, 255, 255)", "dark": "rgb(19, 22, 27)"}[scheme]
    expect(page.locator("body")).to_have_css("background-color", back)
    find(page, "w" * 300, task="raw")
    if width == 320:
        # The results are below the form, so the page scrolls to them.
        expect(page.locator("#status")).to_be_in_viewport()
    unfold(page)
    for budget in (900, 1):
        fill(page, budget=budget)
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    assert page.locator("#candidate-table").evaluate("table => table.scrollWidth <= table.clientWidth")


def test_hostile_data_is_shown_as_text(look: Look, served: Playground) -> None:
    address, retriever = served
    page = look(address)
    fill(page, k=len(NAUGHTY))
    elements = page.locator("script, img, iframe, b").count()
    query = "</textarea><script>alert('x')</script> {question} \"q\" 'a' \\ <s>"
    find(page, query, task="raw")
    unfold(page)
    expected = retriever.retrieve("raw", query, len(NAUGHTY))
    assert texts(page, "#dense .values dd") == [item.input["question"] for item in expected]
    assert texts(page, "#dense .target bdi") == [item.target for item in expected]
    assert sorted(texts(page, "#candidate-rows bdi")) == sorted(texts(page, "#dense code")) == sorted(ids(expected))
    prompt = PromptBuilder(Words(), 2000, 20).build(retriever.tasks["raw"], query, expected)
    assert texts(page, "#prompt pre") == [prompt.text]
    assert page.locator("script, img, iframe, b").count() == elements
    remarks = page.locator("#remarks")
    expect(remarks).to_contain_text("The tokenizer reads <s> as a special token. It is left unchanged in ")
    find(page, f"{query} " * 50, task="raw")
    fill(page, budget=80, truncate="question")
    expect(remarks).to_contain_text("The input is truncated: of question, the prompt shows the first ")


@pytest.mark.parametrize("scope", [{"task": "reviews"}, {"scope": "all"}])
def test_an_example_does_not_find_itself(look: Look, served: Playground, scope: dict[str, str]) -> None:
    page = look(served[0])
    select(page, **scope)
    expect(page.locator("#gold")).to_be_hidden()
    page.get_by_role("button", name="Try an example").click()
    expect(page.locator("#gold code")).to_be_visible()
    wait(page)
    assert texts(page, "#gold code")[0] not in texts(page, "#dense code")
    page.locator("#field-0").press_sequentially("x")
    expect(page.locator("#gold")).to_be_hidden()
    expect(page.locator("#status")).to_have_text("The input has changed; search again.")


def test_an_example_does_not_replace_what_is_typed_meanwhile(look: Look, served: Playground) -> None:
    page, held = look(served[0]), list[Route]()
    find(page, "a fine day", task="notes")
    page.route("**/v1/retrieve", lambda route: held.append(route), times=1)
    with page.expect_request("**/v1/retrieve"):
        page.get_by_role("button", name="Try an example").click()
    page.locator("#field-0").fill("mine")
    with page.expect_response("**/v1/retrieve"):
        held.pop().continue_()
    page.evaluate("new Promise(requestAnimationFrame)")
    expect(page.locator("#field-0")).to_have_value("mine")
    expect(page.locator("#gold")).to_be_hidden()


def test_a_key_stays_in_the_tab(look: Look, retriever: Retriever, tmp_path: Path) -> None:
    key, entry = new_key("reader", Scope.READ)
    append(tmp_path / "keys.toml", entry)
    with running(create_app(retriever, Settings(keys=tmp_path / "keys.toml"), Words())) as address:
        page = look(f"{address}/")
        expect(page.locator("#key")).to_be_focused()
        expect(page.locator("#main")).to_be_hidden()
        for value, message in (("a b é", "no spaces"), ("udr_wrong", "is unknown")):
            page.locator("#key").fill(value)
            page.keyboard.press("Enter")
            expect(page.locator("#key-error")).to_contain_text(message)
        page.locator("#key").fill(f" {key} ")
        page.keyboard.press("Enter")
        expect(page.locator("#title")).to_be_focused()
        find(page, "a dull day", task="notes")
        # This index has no BM25.
        expect(page.locator("#mode, #coverage, #beside-column, #beside-note").locator("visible=true")).to_have_count(0)
        assert key not in page.content() and "$UDR_API_KEY" in texts(page, "#curl")[0]
        stored = page.evaluate("[{...sessionStorage}, {...localStorage}, document.cookie, location.href]")
        assert stored == [{"udr-api-key": key}, {}, "", f"{address}/"]
        page.reload()
        page.locator("#to-rows").click()
        expect(page.locator("#row-list li").first).to_be_visible()
        # What was read with the key goes with it.
        page.get_by_role("button", name="Forget the API key").click()
        expect(page.locator("#key")).to_be_focused()
        expect(page.locator("#main, #rows, #forget").locator("visible=true")).to_have_count(0)
        expect(page.locator("#row-list li, #dense li, #scope option")).to_have_count(0)
        assert page.evaluate("sessionStorage.length") == 0


def test_the_page_works_below_a_prefix(look: Look, served: Playground) -> None:
    page = look(served[0])
    page.route("**/some/prefix/**", lambda route: route.continue_(url=route.request.url.replace("/some/prefix", "")))
    page.goto(f"{served[0]}some/prefix/")
    find(page, "a dull day", task="notes")
    expect(page.locator("#dense li")).to_have_count(8)
    assert f"{served[0]}some/prefix/v1/retrieve'" in texts(page, "#curl")[0]
    assert f'Client("{served[0]}some/prefix")' in texts(page, "#python")[0]


def test_a_page_of_another_site_cannot_use_the_service(served: Playground, browser: Browser) -> None:
    """A browser sends such requests without asking the service first; the page only cannot read the answers."""
    address, _ = served
    context = browser.new_context()
    try:
        page = context.new_page()
        # Two names of one machine are two sites; this path has no policy of its own.
        page.goto(address.replace("127.0.0.1", "localhost") + "livez")
        send = "async url => { await fetch(url, {method: 'POST', mode: 'no-cors', body: '{}'}) }"
        for path in ("v1/admin/reload", "v1/retrieve"):
            with page.expect_response(f"{address}{path}") as answered:
                page.evaluate(send, f"{address}{path}")
            assert answered.value.status == 403
    finally:
        context.close()
