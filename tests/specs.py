"""Checks what our adapters send, and what the fakes answer, against the vendors' own OpenAPI descriptions.

The descriptions lie outside the repository, in `../shared/specs`; tests that need them carry `@needs_specs` and skip,
saying so, where the folder is missing. Nothing of the descriptions is copied into the repository.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "specs"
_ROOT = "urn:openapi"
_FORM = "application/x-www-form-urlencoded"


def spec_folder() -> Path | None:
    """Where the OpenAPI files and signature vectors lie, or None on a machine that has none."""
    return _FOLDER if _FOLDER.is_dir() else None


needs_specs = pytest.mark.skipif(
    spec_folder() is None, reason="the vendors' OpenAPI descriptions (../shared/specs) are not on this machine"
)


def violations(
    spec: str, method: str, path: str, *, body: object = None, form: dict[str, str] | None = None
) -> list[str]:
    """What is wrong with a request, in words; [] when it is as the vendor describes it.

    `spec` names the file without `.min.json`; `path` is the request's path, with or without the server's prefix
    (`/v1`). Give the decoded JSON `body` or the fields of a `form`. A property that the description does not name at
    the top level is a violation too: a misspelt option would otherwise go unnoticed.
    """
    found = _operation(spec, method, path)
    if found is None:
        return [f"{spec} describes no {method} {path}"]
    pointer, operation = found
    described = operation.get("requestBody")
    if described is None:
        return [] if body is None and form is None else [f"{method} {path} takes no body"]
    if body is None and form is None:
        return [f"{method} {path} needs a body"] if described.get("required") else []
    media = "application/json" if form is None else _FORM
    if media not in described["content"]:
        return [f"{method} {path} does not take {media}"]
    where = [*pointer, "requestBody", "content", media, "schema"]
    return _check(spec, where, body if form is None else _typed(spec, where, form), closed=True)


def answer_violations(spec: str, method: str, path: str, *, status: int, body: object) -> list[str]:
    """What is wrong with the JSON answer of a fake, in words; [] when the real service could have sent it."""
    found = _operation(spec, method, path)
    if found is None:
        return [f"{spec} describes no {method} {path}"]
    pointer, operation = found
    described = operation["responses"].get(str(status))
    if described is None:
        return [f"{method} {path} is not described to answer {status}"]
    if "content" not in described:
        return []
    return _check(spec, [*pointer, "responses", str(status), "content", "application/json", "schema"], body)


def _check(spec: str, pointer: list[str], instance: object, *, closed: bool = False) -> list[str]:
    described = {"$ref": _reference(pointer)}
    # Closed only in a second look: where a part does not fit, JSON Schema calls all of that part's properties unknown.
    schemas = [described, {**described, "unevaluatedProperties": False}] if closed else [described]
    for schema in schemas:
        validator = Draft202012Validator(schema, registry=_registry(spec))
        found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance)]
        if found:
            return found
    return []


def _reference(pointer: list[str]) -> str:
    escaped = (part.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D") for part in pointer)
    return f"{_ROOT}#/{'/'.join(escaped)}"


@functools.cache
def _document(spec: str) -> dict[str, Any]:
    folder = spec_folder()
    assert folder is not None, "mark the test with @needs_specs"
    document: dict[str, Any] = _without_nullable(json.loads((folder / f"{spec}.min.json").read_text("utf-8")))
    return document


@functools.cache
def _registry(spec: str) -> Registry[Any]:
    return Registry().with_resource(_ROOT, DRAFT202012.create_resource(_document(spec)))


def _without_nullable(node: Any) -> Any:
    """OpenAPI 3.0's `nullable: true` in the words of JSON Schema: any of what it was, or null.

    Done for every file: OpenAI's says 3.1 of itself and still writes `nullable` in places.
    """
    if isinstance(node, list):
        return [_without_nullable(part) for part in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _without_nullable(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain


def _operation(spec: str, method: str, path: str) -> tuple[list[str], dict[str, Any]] | None:
    """The pointer and description of the operation; a literal path is preferred to a template that fits it too."""
    document = _document(spec)
    for template in sorted(document["paths"], key=lambda template: template.count("{")):
        pattern = "[^/]+".join(re.escape(part) for part in re.split(r"\{[^}]*\}", template))
        if not any(re.fullmatch(pattern, candidate) for candidate in _without_prefix(document, path)):
            continue
        operation = document["paths"][template].get(method.lower())
        if operation is not None:
            return ["paths", template, method.lower()], operation
    return None


def _without_prefix(document: dict[str, Any], path: str) -> Iterator[str]:
    yield path
    for server in document.get("servers", []):
        prefix = urlsplit(server["url"]).path.rstrip("/")
        if prefix and path.startswith(prefix + "/"):
            yield path.removeprefix(prefix)


def _typed(spec: str, pointer: list[str], form: dict[str, str]) -> dict[str, object]:
    """A form's fields as the types that the description gives them: forms know only text."""
    registry = _registry(spec)
    resolved = registry.resolver().lookup(_reference(pointer))
    schema = resolved.contents
    while "$ref" in schema:
        resolved = resolved.resolver.lookup(schema["$ref"])
        schema = resolved.contents
    properties: dict[str, Any] = schema.get("properties", {})
    return {name: _value(properties.get(name, {}), text) for name, text in form.items()}


def _value(schema: dict[str, Any], text: str) -> object:
    """`text` as the schema's type; left as text where it does not read as one, so that the validator says so."""
    kinds = {schema.get("type")} | {part.get("type") for part in schema.get("anyOf", [])}
    if "array" in kinds:
        return [text]
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    if "integer" in kinds and re.fullmatch(r"-?\d+", text):
        return int(text)
    return text
