"""The playground's files: their headers, labels and colors, and that they name no other host."""

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
def test_each_file_has_headers_that_block_other_hosts(service: TestClient, path: str, name: str) -> None:
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


def test_unchanged_files_are_not_sent_again(service: TestClient) -> None:
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
def test_unknown_file_is_a_problem(service: TestClient, file: str) -> None:
    answer = service.get(f"/playground/{file}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, PROBLEM)


def test_the_page_needs_no_key(retriever: Retriever, tmp_path: Path) -> None:
    append(tmp_path / "keys.toml", new_key("reader", Scope.READ)[1])
    with TestClient(create_app(retriever, Settings(keys=tmp_path / "keys.toml"), Words())) as service:
        assert {service.get(path).status_code for path in PATHS} == {200}
        assert service.get("/v1/info").status_code == 401


class Elements(HTMLParser):
    """The elements of a page, each with its attributes and, for controls, whether a label contains it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.labelled: list[bool] = []
        self._in_label = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_label |= tag == "label"
        if tag in ("input", "select", "textarea"):
            self.labelled.append(self._in_label)

    def handle_endtag(self, tag: str) -> None:
        self._in_label &= tag != "label"


PAGE = Elements((FOLDER / "page.html").read_text("utf-8"))
ELEMENTS = PAGE.elements


def test_nothing_in_the_page_is_inline() -> None:
    for tag, attributes in ELEMENTS:
        assert tag != "style" and "style" not in attributes
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name.startswith("on")], tag


def test_links_are_relative() -> None:
    links = [attributes[name] for _, attributes in ELEMENTS for name in ("src", "href", "action") if name in attributes]
    assert len(links) >= 4
    for link in links:
        assert link is not None and re.match(r"((playground|v1)/[\w./]+|docs|#\w+)$", link), link


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


def test_every_control_has_a_label_and_references_exist() -> None:
    assert PAGE.labelled and all(PAGE.labelled)
    ids = [attributes["id"] for _, attributes in ELEMENTS if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in ELEMENTS:
        for name in ("aria-describedby", "aria-labelledby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
    for path in FOLDER.glob("*.js"):
        assert set(re.findall(r"\bat\(\"([\w-]+)\"\)", path.read_text("utf-8"))) <= set(ids), path.name


def luminance(color: str) -> float:
    """The relative luminance of WCAG."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def mixed(color: str, back: str) -> str:
    """A badge's background: 11 % of its color over the page's."""
    pairs = [(int(color[start : start + 2], 16), int(back[start : start + 2], 16)) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(0.11 * part + 0.89 * below):02x}" for part, below in pairs)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str) -> None:
    css = (FOLDER / "page.css").read_text("utf-8")
    pairs = re.findall(r"(--[\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    colors = [(name, pair[scheme == "dark"]) for name, *pair in pairs]
    named = dict(colors)
    backs = {"--ink": ("--back", "--raised"), "--soft": ("--back", "--raised"), "--accent": ("--back",)}
    backs |= {"--bad": ("--back", "--bad-back"), "--on-accent": ("--accent",)}
    checks = [(named[text], named[back]) for text, behind in backs.items() for back in behind]
    tones = [color for name, color in colors if name == "--tone"]
    assert len(tones) == len(set(tones)) == 21  # of labels, and of badges without one
    checks += [(tone, mixed(tone, named["--back"])) for tone in tones]
    for pair in checks:
        low, high = sorted(map(luminance, pair))
        assert (high + 0.05) / (low + 0.05) >= 4.5, pair
