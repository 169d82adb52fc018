"""The playground's files: what they are sent with, and that they ask nothing of anyone else."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import udr_service
from tests.service.conftest import Words
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.api import HEADERS
from udr_service.auth import Scope, append, new_key

FOLDER = Path(udr_service.__file__).parent / "static"
FILES = sorted(path.name for path in FOLDER.iterdir())
PATHS = {"/" if name == "page.html" else f"/playground/{name}": name for name in FILES}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
PROBLEM = "application/problem+json"


@pytest.mark.parametrize(("path", "name"), PATHS.items())
def test_each_file_is_sent_as_it_is_with_headers_that_keep_others_out(
    service: TestClient, path: str, name: str
) -> None:
    answer = service.get(path)
    assert answer.status_code == 200
    assert answer.content == (FOLDER / name).read_bytes()
    assert answer.headers["Content-Type"].partition(";")[0] == TYPES[name.rpartition(".")[2]]
    assert {header: answer.headers[header] for header in HEADERS} == HEADERS
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert (HEADERS["X-Content-Type-Options"], HEADERS["Referrer-Policy"]) == ("nosniff", "no-referrer")


def test_what_a_browser_has_is_not_sent_again(service: TestClient) -> None:
    tags = {path: service.get(path).headers["ETag"] for path in PATHS}
    assert len(set(tags.values())) == len(tags)
    for path, tag in tags.items():
        again = service.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert {header: again.headers[header] for header in HEADERS} == HEADERS
    assert service.get("/", headers={"If-None-Match": '"another"'}).status_code == 200


@pytest.mark.parametrize(
    "file", ["", "nothing.js", "page.html", "page.js/", "..%2Fapp.py", "%2E%2E/app.py", "py.typed"]
)
def test_another_file_is_a_problem(service: TestClient, file: str) -> None:
    answer = service.get(f"/playground/{file}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, PROBLEM)


def test_the_page_is_open_where_the_service_wants_a_key(retriever: Retriever, tmp_path: Path) -> None:
    append(tmp_path / "keys.toml", new_key("reader", Scope.READ)[1])
    with TestClient(create_app(retriever, Settings(keys=tmp_path / "keys.toml"), Words())) as service:
        assert {service.get(path).status_code for path in PATHS} == {200}
        assert service.get("/v1/info").status_code == 401


class Elements(HTMLParser):
    """Every element of a page: its tag and its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


ELEMENTS = Elements((FOLDER / "page.html").read_text("utf-8")).found


def test_nothing_in_the_page_is_inline() -> None:
    for tag, attributes in ELEMENTS:
        assert tag != "style" and "style" not in attributes
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name.startswith("on")], tag


def test_the_page_leads_nowhere_else_and_works_below_any_path() -> None:
    links = [attributes[name] for _, attributes in ELEMENTS for name in ("src", "href", "action") if name in attributes]
    assert len(links) >= 4
    for link in links:
        assert link is not None and re.match(r"(playground|v1)/[\w./]+$", link), link


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_or_makes_html_of_data(name: str) -> None:
    content = (FOLDER / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?i)\b(https?|wss?):|['\"(]//", content)
    assert not re.search(r"@import|url\((?!\"icon\.svg\"\))", content)
    html = r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|srcdoc"
    assert not re.search(rf"{html}|eval\(|Function\(|\"style\"|localStorage", content)
    if name.endswith(".js"):
        assert set(re.findall(r"from \"(.*?)\"", content)) <= {f"./{other}" for other in FILES}
        assert len(content.splitlines()) <= 200


def test_every_control_has_a_label() -> None:
    labelled = {attributes["for"] for tag, attributes in ELEMENTS if tag == "label"}
    controls = {attributes["id"] for tag, attributes in ELEMENTS if tag in ("input", "select", "textarea")}
    assert labelled == controls
    ids = [attributes["id"] for _, attributes in ELEMENTS if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in ELEMENTS:
        for name in ("aria-describedby", "aria-labelledby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
