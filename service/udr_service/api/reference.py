"""The reference of the API as HTML, from its OpenAPI description: at ``/docs``, and in the documentation's site.

It has no scripts, and loads nothing from other hosts.
"""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "maxLength": "at most",
    "maxItems": "at most",
    "minItems": "at least",
}
_UNITS = {"maxLength": " characters", "maxItems": " items", "minItems": " items"}


def reference_page(description: Mapping[str, Any]) -> str:
    """Return the page at ``/docs``.

    Args:
        description: the API in OpenAPI's format.
    """
    title = f"{escape(description['info']['title'])} API {escape(description['info']['version'])}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>'
        f'{title}</title><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="playground/icon.svg"><link rel="stylesheet" href="playground/docs.css"></head><body>'
        f'<header><h1>{title}</h1><p><a href="./">Playground</a> · <a href="v1/openapi.json">OpenAPI description</a>'
        f"</p></header><main>{reference(description)}</main></body></html>\n"
    )


def reference(description: Mapping[str, Any]) -> str:
    """Return the operations and the schemas of an API as HTML, without a page around them."""
    operations = [
        (method, path, operation)
        for path, item in description["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    ]
    schemas = description["components"]["schemas"]
    links = (
        f'<li><a href="#{_anchor(*item)}"><b>{item[0].upper()}</b> {escape(item[1])}</a></li>' for item in operations
    )
    return "\n".join(
        [
            f'<nav><ul class="operations">{"".join(links)}</ul></nav>',
            *(_operation(method, path, operation) for method, path, operation in operations),
            '<h2 id="schemas">Schemas</h2>',
            *(_schema(name, schema) for name, schema in schemas.items()),
        ]
    )


def _anchor(method: str, path: str, _: object = None) -> str:
    return f"{method}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '')}"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [
        (item["name"], item["schema"] | {"description": item.get("description", "")}, item.get("required", False))
        for item in operation.get("parameters", ())
    ]
    body = "".join(f"<p>Body: {_content(operation['requestBody'])}</p>" for _ in range("requestBody" in operation))
    answers = "".join(
        f"<tr><td>{escape('other' if status == 'default' else status)}</td><td>{_content(answer)}</td>"
        f"<td>{escape(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    return (
        f'<section><h2 id="{_anchor(method, path)}"><b>{method.upper()}</b> <code>{escape(path)}</code></h2>'
        f"{_paragraphs(operation.get('description') or operation.get('summary', ''))}{_fields(parameters)}{body}"
        f'<table class="answers"><thead><tr><th>status</th><th>answer</th><th></th></tr></thead>'
        f"<tbody>{answers}</tbody></table></section>"
    )


def _content(message: Mapping[str, Any]) -> str:
    """Return the types of a body or an answer, one for each media type."""
    types = (
        f"{_type(content.get('schema', {}))} <small>{escape(media)}</small>"
        for media, content in message.get("content", {}).items()
    )
    return ", ".join(types) or "nothing"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    fields = [(field, value, field in required) for field, value in schema.get("properties", {}).items()]
    text = _paragraphs(schema.get("description", ""))
    kind = "" if fields else f"<p>{_type({key: value for key, value in schema.items() if key != 'title'})}</p>"
    name = escape(name)
    return f'<section><h3 id="schema-{name}"><code>{name}</code></h3>{text}{kind}{_fields(fields)}</section>'


def _fields(fields: list[tuple[str, Mapping[str, Any], bool]]) -> str:
    """Return a table of fields: names, schemas, and whether they are required."""
    if not fields:
        return ""
    rows = (
        f"<tr><td><code>{escape(name)}</code>{'' if required else ' <small>optional</small>'}</td>"
        f"<td>{_type(schema)}{_limits(schema)}</td><td>{escape(schema.get('description', ''))}</td></tr>"
        for name, schema, required in fields
    )
    return f"<table><thead><tr><th>field</th><th>type</th><th></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(item) for item in schema[key]))
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return escape(" or ".join(kind) if isinstance(kind, list) else kind)


def _limits(schema: Mapping[str, Any]) -> str:
    """Return the bounds and the default of a value, in words."""
    words = list(dict.fromkeys(_bounds(schema)))
    if schema.get("default") not in (None, [], ""):
        words.append(f"by default {schema['default']}")
    return f" <small>{escape(', '.join(words))}</small>" if words else ""


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    for part in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        for key, word in _BOUNDS.items():
            if key in part:
                yield f"{word} {part[key]:g}{_UNITS.get(key, '')}"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())
