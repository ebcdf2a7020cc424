"""The OpenAPI document, from the table of routes and the models that the handlers use: nothing is written twice."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.contracts.errors import ERRORS, Code
from services.ingest.http.reference import COMMON_ERRORS, KEY_ERRORS
from services.ingest.http.route import Param, Route

Json = dict[str, Any]
_REF = "#/components/schemas/{model}"


def document(routes: Iterable[Route]) -> Json:
    """The whole document, OpenAPI 3.1."""
    routes = list(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "desifre",
            "version": version("desifre"),
            "description": "Speech to text: a recording in, words with times and probabilities out.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def errors_of(route: Route) -> list[Code]:
    """Every code that a route may answer, by status."""
    codes = {*route.errors, *COMMON_ERRORS, *(KEY_ERRORS if route.scope else ())}
    codes |= set() if route.free_query else {Code.PARAMETER}
    return sorted(codes, key=lambda code: (ERRORS[code].status, code))


def _schemas(routes: Iterable[Route]) -> Json:
    models: set[type[BaseModel]] = set()
    for route in routes:
        models.add(route.shape.model)
        models |= {answer.model for answer in route.answers.values() if answer.model}
        if route.body:
            models |= {model for model in (route.body.json, route.body.form) if model}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schema = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    found: Json = schema["$defs"]
    return found


def _operation(route: Route) -> Json:
    operation: Json = {"summary": route.summary, "operationId": route.handler.__name__, "responses": _responses(route)}
    if route.params:
        operation["parameters"] = [_parameter(param) for param in route.params]
    if route.body:
        operation["requestBody"] = {"content": _content(route)}
    if route.scope:
        operation["security"] = [{"key": []}, {"bearer": []}]
        operation["description"] = f"Needs a key with the scope `{route.scope}`."
    return operation


def _parameter(param: Param) -> Json:
    return {
        "name": param.name,
        "in": param.where,
        "required": param.where == "path",
        "description": param.text,
        "schema": {"type": param.kind},
    }


def _content(route: Route) -> Json:
    body = route.body
    content: Json = {}
    if body and body.form:
        file = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
        content["multipart/form-data"] = {"schema": {"allOf": [file, _ref(body.form)]}}
    if body and body.recording:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    if body and body.json:
        content["application/json"] = {"schema": _ref(body.json)}
    return content


def _responses(route: Route) -> Json:
    responses: Json = {}
    for status, answer in route.answers.items():
        schema = {"schema": _ref(answer.model)} if answer.model else {}
        content = {media: schema if media == "application/json" else {} for media in answer.media}
        responses[str(status)] = {"description": answer.text, "content": content}
    by_status: dict[int, list[Code]] = {}
    for code in errors_of(route):
        by_status.setdefault(route.shape.status(code), []).append(code)
    for status, codes in by_status.items():
        text = "; ".join(f"`{code}`: {ERRORS[code].title}" for code in codes)
        content = {route.shape.media: {"schema": _ref(route.shape.model)}}
        responses.setdefault(str(status), {"description": text, "content": content})
    return responses


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}
