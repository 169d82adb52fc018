"""The playground in a real browser where it writes, and where it asks a language model."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_task
from tests.service.api.chromium import Look, find, needs_chromium, texts, wait
from tests.service.conftest import Words
from tests.service.running import running
from tests.upstreams import Upstream, refuses, upstream
from udr.retrieval import Retriever
from udr.store.usage import UsageLevel
from udr.types import Json
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key

Writable = tuple[str, Retriever, Upstream]
pytestmark = needs_chromium


@pytest.fixture
def writable(tmp_path: Path) -> Iterator[Writable]:
    """A service whose rows can change, with an upstream."""
    rows: list[Mapping[str, Json]] = [
        {"id": f"n{n:02}", "input": {"text": f"day {n}"}, "target": "glad", "metadata": {"stars": n % 5}}
        for n in range(60)
    ]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    other: Mapping[str, Json] = {"id": "n03", "input": {"text": "another day"}, "target": "sad"}
    write_task(tmp_path / "tasks", {**NOTES, "name": "other"}, train=[other])
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index"), HashEncoder())
    with upstream() as model, Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever:
        with running(create_app(retriever, Settings(upstream=model.url), Words())) as address:
            yield f"{address}/", retriever, model


def status(page: Page, text: str) -> None:
    expect(page.locator("#rows-status")).to_contain_text(text)


def test_the_model_is_asked_with_the_prompt_that_is_shown(look: Look, writable: Writable) -> None:
    address, _, model = writable
    page = look(address)
    info = page.request.get(f"{address}v1/info").json()
    assert ([task["bm25"] for task in info["tasks"]], info["upstream"]) == ([True, True], True)
    find(page, "a fine day", task="notes")
    page.locator("#model").fill("tiny")
    page.get_by_role("button", name="Ask the model").click()
    expect(page.locator("#answer")).to_have_text("sad")
    shown = texts(page, "#prompt pre")[0]
    assert model.requests[-1].body == {"model": "tiny", "messages": [{"role": "user", "content": shown}]}
    page.locator("#format").select_option("messages")
    wait(page)
    expect(page.locator("#answer")).to_be_hidden()
    model.behave = refuses(429, {"error": {"message": "too many", "type": "limit"}})
    page.get_by_role("button", name="Ask the model").click()
    expect(page.locator("#answer-note")).to_have_text("HTTP 429: too many")
    assert [item["content"] for item in model.requests[-1].body["messages"]] == texts(page, "#prompt .message pre")


def test_rows_are_listed_in_pages_and_filtered(look: Look, writable: Writable) -> None:
    page = look(f"{writable[0]}#rows")
    status(page, "The first 50 rows.")
    page.get_by_role("button", name="More rows").click()
    status(page, "60 rows, all that there are.")
    assert texts(page, "#row-list code") == [f"n{n:02}" for n in range(60)]
    page.locator("#rows-filter").fill('stars >= 3 and $id in ["n03", "n04", "n05"]')
    page.keyboard.press("Enter")
    status(page, "2 rows, all that there are by this filter.")
    assert texts(page, "#row-list code") == ["n03", "n04"]
    page.locator("#rows-filter").fill("stars >=")
    page.keyboard.press("Enter")
    expect(page.locator("#rows-filter")).to_have_attribute("aria-invalid", "true")


def test_rows_show_how_often_they_were_retrieved_and_shown(look: Look, writable: Writable) -> None:
    address = writable[0]
    page = look(address)
    # The page asks with its form when it opens, which counts as well.
    wait(page)
    page.wait_for_load_state("networkidle")
    count = {"n03": (3, 1), "n04": (1, 0)}
    before = {id: page.request.get(f"{address}v1/tasks/notes/demonstrations/{id}?counts=true").json() for id in count}
    for id, (retrieved, shown) in count.items():
        body = {"task": "notes", "input": {"text": "x"}, "k": 1, "filter": {"must": [{"key": "$id", "match": id}]}}
        for _ in range(retrieved - shown):
            assert page.request.post(f"{address}v1/retrieve", data=body).ok
        for _ in range(shown):
            assert page.request.post(f"{address}v1/prompt", data={**body, "budget": 500}).ok
    page.goto(f"{address}#rows")
    for id, (retrieved, shown) in count.items():
        now = [before[id]["retrieved"] + retrieved, before[id]["shown"] + shown]
        foot = page.locator("#row-list li").filter(has_text=id).locator(".foot")
        words = f"retrieved {now[0]} time{'s' * (now[0] != 1)}, shown in {now[1]} prompt{'s' * (now[1] != 1)}"
        expect(foot).to_contain_text(words)
    # They stay with a row that is edited.
    page.get_by_role("button", name="Edit n03").click()
    page.locator("#row-form").get_by_label("Target").fill("sad")
    page.get_by_role("button", name="Save").click()
    status(page, "Saved n03.")
    expect(page.locator("#row-list li").filter(has_text="n03").locator(".foot")).to_contain_text("retrieved")


def test_rows_show_no_counts_where_nothing_is_counted(look: Look, writable: Writable) -> None:
    with running(create_app(writable[1], Settings(usage=UsageLevel.OFF), Words())) as address:
        page = look(f"{address}/#rows")
        status(page, "The first 50 rows.")
        assert texts(page, "#row-list .foot")[3] == "stars: 3"


def test_rows_are_edited_added_and_deleted(look: Look, writable: Writable) -> None:
    address, retriever, _ = writable
    page = look(f"{address}#rows")
    page.get_by_role("button", name="Edit n03").click()
    page.locator("#row-form").get_by_label("text").fill("a new day")
    page.get_by_role("button", name="Save").click()
    status(page, "Saved n03.")
    row = retriever.demonstration("notes", "n03")
    assert (row.input, row.target, row.metadata) == ({"text": "a new day"}, "glad", {"stars": 3})
    page.get_by_role("button", name="Add a row").click()
    page.locator("#row-form").get_by_label("Id").fill("n04")
    page.locator("#row-form").get_by_label("Target").fill("sad")
    page.locator("#row-form").get_by_label("Metadata, as JSON").fill("{")
    for id, metadata, error in (("n04", "{", "metadata is not JSON"), ("n04", "", "there is a row with this id")):
        page.locator("#row-form").get_by_label("Id").fill(id)
        page.locator("#row-form").get_by_label("Metadata, as JSON").fill(metadata)
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#row-error")).to_contain_text(error)
    page.locator("#row-form").get_by_label("Id").fill("x/1")
    page.get_by_role("button", name="Save").click()
    status(page, "Saved x/1.")
    assert retriever.demonstration("notes", "x/1").target == "sad"
    page.get_by_role("button", name="Delete x/1").click()
    page.get_by_role("button", name="Delete it for good").click()
    status(page, "Deleted x/1.")
    assert retriever.sizes["notes"] == 60


def test_numbers_that_nobody_edits_stay_as_they_are(look: Look, writable: Writable) -> None:
    address, retriever, _ = writable
    page = look(f"{address}#rows")
    body = '{"input": {"text": null}, "target": "glad", "metadata": {"order": 12345678901234567, "price": [4.0, 1e-7]}}'
    json = {"Content-Type": "application/json"}
    assert page.request.put(f"{address}v1/tasks/notes/demonstrations/n03", data=body, headers=json).ok
    page.get_by_role("button", name="Show rows").click()
    foot = page.locator("#row-list li").filter(has_text="n03").locator(".foot")
    expect(foot).to_contain_text("order: 12345678901234567price: 4.0, 1e-07")
    page.get_by_role("button", name="Edit n03").click()
    page.locator("#row-form").get_by_label("Target").fill("sad")
    page.get_by_role("button", name="Save").click()
    status(page, "Saved n03.")
    row = retriever.demonstration("notes", "n03")
    assert row.target == "sad"
    assert repr((row.input, row.metadata)) == "({'text': None}, {'order': 12345678901234567, 'price': [4.0, 1e-07]})"
    page.get_by_role("button", name="Delete n03").click()
    expect(page.get_by_role("button", name="Delete it for good")).to_be_focused()


def test_an_example_with_numbers_is_not_promised_to_be_left_out(look: Look, writable: Writable) -> None:
    address = writable[0]
    page = look(f"{address}#rows")
    body = {"input": {"text": 4.0}, "target": "glad"}
    assert page.request.put(f"{address}v1/tasks/notes/demonstrations/n00", data=body).ok
    page = look(address)
    found = "A row of the pool, n00. Its input has numbers, so the search may find it. Its answer: glad"
    expect(page.locator("#gold")).to_have_text(found)


def test_rows_belong_to_the_task_that_they_were_listed_of(look: Look, writable: Writable) -> None:
    address, retriever, _ = writable
    page, held = look(f"{address}#rows"), list[Route]()
    status(page, "The first 50 rows.")
    # The rows of the other task are slow, so those of this one are still shown.
    page.route("**/other/demonstrations?*", lambda route: held.append(route), times=1)
    with page.expect_request("**/other/demonstrations?*"):
        page.locator("#rows-task").select_option("other")
    expect(page.locator("#rows-more")).to_be_hidden()
    page.get_by_role("button", name="Edit n03").click()
    expect(page.locator("#row-form").get_by_label("text")).to_have_value("day 3")
    held.pop().continue_()
    status(page, "1 row, all that there are.")
    page.locator("#row-form").get_by_label("text").fill("mine")
    page.get_by_role("button", name="Save").click()
    status(page, "Saved n03.")
    assert texts(page, "#row-list dd") == ["another day"]
    assert retriever.demonstration("notes", "n03").input == {"text": "mine"}
    assert retriever.demonstration("other", "n03").input == {"text": "another day"}
    # A row is added to the task of the form, whatever is listed.
    page.get_by_role("button", name="Add a row").click()
    page.locator("#row-form").get_by_label("Id").fill("new")
    page.locator("#row-form").get_by_label("Target").fill("sad")
    page.locator("#rows-task").select_option("notes")
    status(page, "The first 50 rows.")
    page.get_by_role("button", name="Save").click()
    status(page, "Saved new.")
    assert retriever.demonstration("other", "new").target == "sad"
    assert "new" not in texts(page, "#row-list code")
    page.locator("#rows-filter").fill("stars >=")
    page.locator("#rows-task").select_option("other")
    expect(page.locator("#rows-filter")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#row-list li, #rows-more").locator("visible=true")).to_have_count(0)


def test_choices_that_the_template_shows_are_no_field(look: Look, tmp_path: Path) -> None:
    task: dict[str, Json] = {**QUESTIONS, "kind": "multiple_choice", "input": "{question}\nOne of: {choices}"}
    row: Mapping[str, Json] = {"id": "q", "input": {"question": "Up?"}, "target": "sky", "choices": ["sky", "sea"]}
    write_task(tmp_path / "tasks", {key: task[key] for key in task if key != "labels"}, train=[row])
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index"), HashEncoder())
    with Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever:
        with running(create_app(retriever, Settings(), Words())) as address:
            page = look(f"{address}/")
            expect(page.locator("#gold code")).to_have_text("q")
            assert page.locator("#fields textarea").evaluate_all("all => all.map(box => box.value)") == [
                "Up?",
                "sky, sea",
            ]
            # The search leaves the row out, as the page says.
            wait(page)
            assert texts(page, "#dense code") == []
            page.goto(f"{address}/#rows")
            page.get_by_role("button", name="Edit q").click()
            page.locator("#row-form").get_by_label("Target").fill("sea")
            page.get_by_role("button", name="Save").click()
            status(page, "Saved q.")
            saved = retriever.demonstration(str(task["name"]), "q")
            assert (saved.input, saved.target, saved.choices) == ({"question": "Up?"}, "sea", ("sky", "sea"))


def test_a_change_of_someone_else_is_not_overwritten(look: Look, writable: Writable) -> None:
    address, retriever, _ = writable
    page = look(f"{address}#rows")
    page.get_by_role("button", name="Edit n03").click()
    expect(page.locator("#row-form")).to_be_visible()
    body = {"input": {"text": "theirs"}, "target": "sad"}
    assert page.request.put(f"{address}v1/tasks/notes/demonstrations/n03", data=body).status == 200
    page.locator("#row-form").get_by_label("text").fill("mine")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#row-error")).to_contain_text("changed or deleted after you opened it")
    assert retriever.demonstration("notes", "n03").input == {"text": "theirs"}
    page.get_by_role("button", name="Load the row as it is now").click()
    expect(page.locator("#row-form").get_by_label("text")).to_have_value("theirs")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete n03").click()
    status(page, "n03 has changed meanwhile")
    assert retriever.demonstration("notes", "n03").target == "sad"


@pytest.mark.parametrize("code", [429, 503, 401])
def test_a_row_that_did_not_load_is_not_edited(look: Look, writable: Writable, code: int) -> None:
    address, retriever, _ = writable
    page = look(f"{address}#rows")
    problem = {"title": "Not now", "status": code, "detail": "try again"}
    page.route("**/demonstrations/*", lambda route: route.fulfill(status=code, json=problem), times=1)
    page.get_by_role("button", name="Edit n03").click()
    status(page, "Not now: try again")
    expect(page.locator("#row-form")).to_be_hidden()
    if code == 401:
        page.locator("#key").fill("any")
        page.keyboard.press("Enter")
        expect(page.locator("#row-form").get_by_label("text")).to_have_value("day 3")
        page.get_by_role("button", name="Cancel").click()
    # Nor is a row added if nobody knows whether its id is taken.
    page.route("**/demonstrations/*", lambda route: route.fulfill(status=503, json=problem), times=1)
    page.get_by_role("button", name="Add a row").click()
    page.locator("#row-form").get_by_label("Id").fill("n04")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#row-error")).to_contain_text("Not now")
    assert [retriever.demonstration("notes", f"n0{n}").input for n in (3, 4)] == [{"text": "day 3"}, {"text": "day 4"}]


def test_slow_answers_leave_the_open_form_alone(look: Look, writable: Writable) -> None:
    address, retriever, _ = writable
    page, held = look(f"{address}#rows"), list[Route]()
    box = page.locator("#row-form").get_by_label("text")
    page.route("**/demonstrations/n03", lambda route: held.append(route), times=1)
    with page.expect_request("**/demonstrations/n03"):
        page.get_by_role("button", name="Edit n03").click()
    page.get_by_role("button", name="Edit n04").click()
    expect(box).to_have_value("day 4")
    box.fill("mine")
    with page.expect_response("**/demonstrations/n03"):
        held.pop().continue_()
    expect(box).to_have_value("mine")
    page.route("**/demonstrations/n04", lambda route: held.append(route), times=1)
    with page.expect_request("**/demonstrations/n04"):
        page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Edit n05").click()
    expect(box).to_have_value("day 5")
    box.fill("mine, too")
    held.pop().continue_()
    status(page, "Saved n04.")
    expect(box).to_have_value("mine, too")
    expect(box).to_be_focused()
    assert retriever.demonstration("notes", "n04").input == {"text": "mine"}


def test_the_focus_stays_where_the_user_was(look: Look, writable: Writable) -> None:
    address = writable[0]
    page = look(f"{address}#rows")

    def press(name: str) -> None:
        page.get_by_role("button", name=name).focus()
        page.keyboard.press("Enter")

    def focused(name: str) -> None:
        expect(page.get_by_role("button", name=name)).to_be_focused()

    press("More rows")
    focused("Edit n50")
    for opener in ("Edit n03", "Add a row"):
        press(opener)
        expect(page.locator("#row-form")).to_be_visible()
        press("Cancel")
        focused(opener)
    body = {"input": {"text": "w" * 1300}, "target": "glad"}
    assert page.request.put(f"{address}v1/tasks/notes/demonstrations/n59", data=body).ok
    # It has changed meanwhile, so this shows the row as it is now.
    press("Delete n59")
    focused("Edit n59")
    press("Show all 1,300 characters")
    expect(page.locator("dd", has_text="www")).to_be_focused()
    for id, near in (("n03", "Edit n04"), ("n59", "Edit n58")):
        press(f"Delete {id}")
        press("Delete it for good")
        focused(near)
    page.locator("#rows-task").select_option("other")
    status(page, "1 row, all that there are.")
    press("Delete n03")
    press("Delete it for good")
    status(page, "Deleted n03.")
    expect(page.locator("#rows-status")).to_be_focused()


def test_a_key_that_may_only_read_is_told(look: Look, writable: Writable, tmp_path: Path) -> None:
    keys = {scope: new_key(scope.value, scope) for scope in (Scope.READ, Scope.WRITE)}
    for _, entry in keys.values():
        append(tmp_path / "keys.toml", entry)
    with running(create_app(writable[1], Settings(keys=tmp_path / "keys.toml"), Words())) as address:
        page = look(f"{address}/#rows", width=390)
        page.locator("#key").fill(keys[Scope.READ][0])
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Edit n03").click()
        page.locator("#row-form").get_by_label("Target").fill("sad")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#key-error")).to_contain_text("write")
        # Rows fit a phone.
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        page.locator("#key").fill(keys[Scope.WRITE][0])
        page.keyboard.press("Enter")
        status(page, "Saved n03.")
        expect(page.get_by_role("button", name="Edit n03")).to_be_focused()
