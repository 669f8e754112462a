"""OpenAPI documents of platforms: what a request's body must be like."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import yaml

FOLDER = Path(__file__).with_name("specs")
_METHODS = ("get", "put", "post", "delete", "patch")


class Specification:
    """The bodies of one OpenAPI 3.0 document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._operations = {
            (method.upper(), _shape(path)): operation
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method in _METHODS
        }
        self._validators: dict[tuple[str, str], jsonschema_rs.Draft4Validator | None] = {}

    def knows(self, method: str, path: str) -> bool:
        """Whether the document has that call; names of the path's parameters don't matter."""
        return (method, _shape(path)) in self._operations

    def first_error(self, method: str, path: str, body: Any) -> tuple[str, str] | None:
        """Where (path with dots) and why a body is not as the document has it; None where it is, or says nothing of it."""
        at = (method, _shape(path))
        if at not in self._validators:
            self._validators[at] = self._validator(
                _schema(self._resolved(self._operations.get(at, {}).get("requestBody")))
            )
        return _first_error(self._validators[at], body)

    def first_error_of_answer(self, method: str, path: str, status: int, body: Any) -> tuple[str, str] | None:
        """The same of an answer."""
        responses = self._operations.get((method, _shape(path)), {}).get("responses", {})
        found = responses.get(str(status)) or responses.get(f"{status // 100}XX") or responses.get("default")
        return _first_error(self._validator(_schema(self._resolved(found))), body)

    def _validator(self, schema: Any) -> jsonschema_rs.Draft4Validator | None:
        if schema is None:
            return None
        # References begin at the document's root, so the components come along.
        return jsonschema_rs.Draft4Validator(
            _as_json_schema({**schema, "components": self._document.get("components", {})})
        )

    def _resolved(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            found: Any = self._document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name.replace("~1", "/").replace("~0", "~")]
            node = found
        return node


@cache
def shipped(name: str) -> Specification:
    """A document of `specs`, by its path there."""
    return read(FOLDER / name)


def read(path: Path) -> Specification:
    """A document in a file, JSON or YAML."""
    if path.suffix == ".json":
        return Specification(orjson.loads(path.read_bytes()))
    return Specification(yaml.load(path.read_bytes(), Loader=_PlainLoader))


class _PlainLoader(yaml.SafeLoader):
    """YAML whose dates stay text, as they are examples and bounds of JSON."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _first_error(validator: jsonschema_rs.Draft4Validator | None, body: Any) -> tuple[str, str] | None:
    if validator is None or validator.is_valid(body):
        return None
    error = next(validator.iter_errors(body))
    return ".".join(str(step) for step in error.instance_path), error.message


def _schema(holder: Any) -> Any:
    """The JSON schema in a request's body or an answer."""
    content = (holder or {}).get("content", {})
    for kind, said in content.items():
        if "json" in kind:
            return said.get("schema")
    return None


def _as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema has another type."""
    if isinstance(node, list):
        return [_as_json_schema(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    made = {name: _as_json_schema(value) for name, value in node.items() if name not in ("example", "examples")}
    if made.pop("nullable", False) is True:
        if isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
        if isinstance(made.get("enum"), list) and None not in made["enum"]:
            made["enum"] = [*made["enum"], None]
    return made


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/") or "/"
