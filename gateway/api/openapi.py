"""The OpenAPI 3.1 document, made from the Acts and the wire's dataclasses; nothing by hand.

It describes the control app and the data app: the two paths of the data port carry `servers`
of their own, because their host is the `data_url` that the lease names.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from http import HTTPStatus
from typing import Any, Union, get_args, get_origin

import gateway
import gateway.wire as W
from gateway.api.acts import PAGE_DEFAULT, PAGE_MAX, Act
from gateway.wire.codec import INTEGER_MAX, hints_of
from gateway.wire.tokens import LINEAGE_PATH

_PLACES = re.compile(r"\{(\w+)\}")
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    bytes: {"type": "string", "format": "binary"},
    dict: {"type": "object"},
}
_MEDIA_TYPES: dict[Any, str] = {str: "text/markdown", bytes: "application/octet-stream"}
_NAME = "[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_TAGS = {"registrations": "datasets", "oauth": "tokens", ".well-known": "tokens"}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "advice", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "advice": {"type": "string"},
        "request_id": {"type": "string"},
        "decision": {"type": "string"},
    },
}
_DATA_SERVERS = [
    {
        "url": "{data_url}",
        "description": "The data port, as the lease names it",
        "variables": {"data_url": {"default": "http://127.0.0.1:8788"}},
    }
]


def document(acts: Iterable[Act]) -> dict[str, Any]:
    """Return the whole document."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for act in acts:
        paths.setdefault(act.path, {})[act.method.lower()] = _operation(act, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dataset Gateway",
            "version": gateway.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Errors: RFC 9457. Tokens: RFC 9068, bound to a key by RFC 9449.",
        },
        "servers": [{"url": "/", "description": "The control port"}],
        "security": [{"dpop": []}],
        "paths": paths | data_paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "dpop": {
                    "type": "http",
                    "scheme": "DPoP",
                    "description": "`Authorization: DPoP <token>` and a fresh proof in `DPoP`",
                },
                "lineageKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a key of `gateway lineage key`, good for this path alone",
                },
                "lease": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`Gateway-HMAC …` under the lease key: docs/formats",
                },
            },
        },
    }


def _operation(act: Act, schemas: dict[str, Any]) -> dict[str, Any]:
    parts = [part for part in act.path.split("/") if part]
    noun = parts[1] if parts[0] in ("v1", "access") and len(parts) > 1 else parts[0]
    operation: dict[str, Any] = {
        "operationId": _operation_id(act),
        "summary": act.summary,
        "tags": [_TAGS.get(noun, noun)],
        "parameters": [*_path_parameters(act), *_query_parameters(act), *_header_parameters(act)],
        "responses": _responses(act, schemas),
    }
    if act.is_public:
        operation["security"] = []
    if act.body is not None:
        schema = schema_of(act.body, schemas, strict=True)
        operation["requestBody"] = _body("application/json", schema)
    elif act.path == LINEAGE_PATH and act.method == "POST":
        operation["requestBody"] = _body("application/json", {"type": "object"})
        operation["security"] = [{"dpop": []}, {"lineageKey": []}]
    elif act.is_binary and act.method == "PUT":
        binary = {"type": "string", "format": "binary"}
        operation["requestBody"] = _body("application/octet-stream", binary)
    elif act.is_binary:
        form = {"type": "object", "additionalProperties": {"type": "string"}}
        operation["requestBody"] = _body("application/x-www-form-urlencoded", form)
    return operation


def _operation_id(act: Act) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", act.path.lower().replace("/v1/", "/")).strip("_")
    return f"{act.method.lower()}_{words}"


def _body(media_type: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": schema}}}


def _path_parameters(act: Act) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}
        for name in _PLACES.findall(act.path)
    ]


def _path_schema(name: str) -> dict[str, Any]:
    if name in ("n", "version"):
        return {"type": "integer", "minimum": 0, "maximum": 999_999_999}
    if name in ("tenant", "name"):
        return {"type": "string", "pattern": f"^{_NAME}$"}
    return {"type": "string", "minLength": 1, "maxLength": 128}


def _query_parameters(act: Act) -> list[dict[str, Any]]:
    numbers = {"file", "index", "size", "first", "second", "depth", "rows", "start"}
    found = [
        {
            "name": name,
            "in": "query",
            "required": name in ("index", "first", "nodeId"),
            "description": text,
            "schema": {"type": "integer", "minimum": 0} if name in numbers else {"type": "string"},
        }
        for name, text in act.query.items()
    ]
    if act.is_page:
        limit = {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT}
        found += [
            {"name": "limit", "in": "query", "schema": limit},
            {"name": "cursor", "in": "query", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
        ]
    return found


def _header_parameters(act: Act) -> list[dict[str, Any]]:
    text = {"type": "string", "minLength": 1, "maxLength": 255}
    if act.takes_idempotency_key:
        return [{"name": "Idempotency-Key", "in": "header", "schema": text}]
    if act.method == "PUT" and not act.is_binary:
        return [{"name": "If-Match", "in": "header", "required": True, "schema": text}]
    return []


def _responses(act: Act, schemas: dict[str, Any]) -> dict[str, Any]:
    problem = {
        "description": "An error; `type` names it (docs/reference/errors.md)",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
    if act.reply is None and act.status != HTTPStatus.OK:
        return {str(act.status): {"description": act.summary}, "default": problem}
    if act.reply is None:
        return {"204": {"description": "Done"}, "default": problem}
    media_type = _MEDIA_TYPES.get(act.reply, "application/json")
    schema = schema_of(act.reply, schemas, strict=False)
    if act.is_page:
        schema = {
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": {"type": "array", "items": schema},
                "next": {"type": ["string", "null"]},
            },
        }
    good: dict[str, Any] = {
        "description": act.summary,
        "content": {media_type: {"schema": schema}},
    }
    if act.is_also_arrow:
        good["content"][W.ARROW_STREAM] = {"schema": _PLAIN[bytes]}
        facts = {"schema": schema_of(W.AnswerFacts, schemas, strict=False)}
        good["headers"] = {
            W.ANSWER_HEADER: {
                "description": "Beside an Arrow stream: what the JSON says beside its rows",
                "content": {"application/json": facts},
            }
        }
    return {str(act.status): good, "default": problem}


def schema_of(hint: Any, schemas: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    """Return the JSON Schema of a type of the wire; dataclasses are put into `schemas`."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = next(choice for choice in get_args(hint) if choice is not types.NoneType)
        return {"anyOf": [schema_of(inner, schemas, strict=strict), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": schema_of(get_args(hint)[0], schemas, strict=strict)}
    if origin is dict:
        values = schema_of(get_args(hint)[1], schemas, strict=strict)
        return {"type": "object", "additionalProperties": values}
    if is_dataclass(hint):
        return _component(hint, schemas, strict=strict)  # type: ignore[arg-type]
    return dict(_PLAIN.get(hint, {}))


def _component(kind: type, schemas: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    name = kind.__name__
    if name not in schemas:
        schemas[name] = {}
        hints = hints_of(kind)
        schemas[name] |= {
            "type": "object",
            "description": (kind.__doc__ or "").split("\n", maxsplit=1)[0],
            "properties": {
                f.name: schema_of(hints[f.name], schemas, strict=strict) for f in fields(kind)
            },
            "required": [
                f.name
                for f in fields(kind)
                if not strict or (f.default is MISSING and f.default_factory is MISSING)
            ],
        }
        if strict:
            schemas[name]["additionalProperties"] = False
    return {"$ref": f"#/components/schemas/{name}"}


def data_paths() -> dict[str, Any]:
    """The paths that the data workers serve (docs/formats: segment)."""
    lease = {"name": "id", "in": "path", "required": True, "schema": _path_schema("id")}
    number = {"name": "n", "in": "path", "required": True, "schema": _path_schema("n")}
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    frame = {
        "servers": _DATA_SERVERS,
        "security": [{"lease": []}],
        "tags": ["leases"],
    }
    return {
        "/v1/leases/{id}/segments/{n}": {
            "get": {
                **frame,
                "operationId": "get_leases_id_segments_n",
                "summary": "The bytes of one segment",
                "parameters": [lease, number],
                "responses": {"200": {"description": "The segment", "content": binary}},
            }
        },
        "/v1/leases/{id}/acknowledgements": {
            "post": {
                **frame,
                "operationId": "post_leases_id_acknowledgements",
                "summary": "Say up to where the rows were received (cumulative)",
                "parameters": [lease],
                "responses": {"204": {"description": "Recorded"}},
            }
        },
    }
