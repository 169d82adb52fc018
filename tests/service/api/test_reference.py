"""The page of the API at ``/docs``: every operation, field and limit of the description, from this host alone."""

import json
import re
from html import unescape
from html.parser import HTMLParser

from fastapi.testclient import TestClient

from tests.test_layers import REPOSITORY
from udr_service.api import HEADERS, reference

DESCRIPTION = json.loads((REPOSITORY / "docs" / "openapi.json").read_text("utf-8"))


class Page(HTMLParser):
    """The identifiers, the links and the addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids, self.links, self.tags = list[str](), list[str](), set[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [str(values["id"])] if "id" in values else []
        self.links += [str(values[key]) for key in ("href", "src") if key in values]


def text(html: str) -> str:
    return unescape(re.sub("<[^>]+>", "", html))


def test_the_service_serves_it_without_other_hosts(service: TestClient) -> None:
    answer = service.get("/docs")
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/html")
    assert {header: answer.headers[header] for header in HEADERS} == HEADERS
    page = Page(answer.text)
    assert "script" not in page.tags and not [link for link in page.links if "//" in link]
    assert len(set(page.ids)) == len(page.ids)
    assert [link for link in page.links if link[0] == "#" and link[1:] not in page.ids] == []
    local = [link for link in page.links if link[0] != "#"]
    assert {service.get(f"/{link.removeprefix('./')}").status_code for link in local} == {200}
    assert "docs" in Page(service.get("/").text).links


def test_it_names_every_operation_field_and_limit() -> None:
    html = reference(DESCRIPTION)
    shown = text(html)
    for path, item in DESCRIPTION["paths"].items():
        for method, operation in item.items():
            assert f"{method.upper()} {path}" in shown and operation["description"].split("\n\n")[0] in shown
    sections = dict(re.findall(r'<h3 id="schema-(\w+)">(.*?)</section>', html, re.DOTALL))
    assert sections.keys() == DESCRIPTION["components"]["schemas"].keys()
    for name, schema in DESCRIPTION["components"]["schemas"].items():
        for field, value in schema.get("properties", {}).items():
            assert f"<code>{field}</code>" in sections[name]
            assert value.get("description", "") in text(sections[name])
    body = text(sections["RetrieveBody"])
    assert "exclude optionallist of string or null at most 4096 items" in body and "by default 8" in body


def test_what_a_description_holds_is_text() -> None:
    evil = {"type": "string", "description": "<script>", "enum": ["<i>"]}
    schemas = {"A": {"type": "object", "properties": {"<b>": evil}}}
    html = reference({"paths": {}, "components": {"schemas": schemas}})
    assert "<script>" not in html and "<i>" not in html and "&lt;b&gt;" in html
