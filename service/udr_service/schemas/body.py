"""The base of request bodies."""

import itertools
from functools import cache

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

MAX_ERRORS = 16
"""How many errors of a body, or of an item of a batch, are reported."""


_NULL = {"type": "null"}


class Body(BaseModel):
    """A request body: no type conversions, no unknown fields, no NaN; null for an optional field means absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, body: object) -> object:
        """Return a body without nulls for optional fields, and with a few of its unknown fields, for the error."""
        if not isinstance(body, dict):
            return body
        optional = cls._optional()
        known = {name: value for name, value in body.items() if value is not None or name not in optional}
        if len(known) > len(cls.model_fields):
            unknown = itertools.islice((name for name in known if name not in cls.model_fields), MAX_ERRORS)
            return {name: known[name] for name in (*cls.model_fields.keys() & known.keys(), *unknown)}
        return known

    @classmethod
    @cache
    def _optional(cls) -> frozenset[str]:
        return frozenset(name for name, field in cls.model_fields.items() if not field.is_required())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        properties = handler.resolve_ref_schema(described)["properties"]
        for name in cls._optional():
            found = properties[name]
            around = {key: found.pop(key) for key in ("title", "description", "default") if key in found}
            # A union in a union is one.
            nested = (item["oneOf"] if "oneOf" in item else [item] for item in found.get("anyOf", [found]))
            options = [item for items in nested for item in items if item != _NULL]
            properties[name] = {"anyOf": [*options, _NULL], **around}
        return described
