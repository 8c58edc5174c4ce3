"""The facet that our OpenLineage events carry: under which decision a run got what of a dataset.

`FACET` on an input dataset. Its schema is docs/formats/openlineage-access-v1.json, which every
gateway also serves itself: `_schemaURL` leads there.
"""

from __future__ import annotations

from typing import Any

FACET = "gateway_access"
SCHEMA_PATH = "/docs/formats/openlineage-access-v1.json"
KIND = "GatewayAccessInputDatasetFacet"

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_GRANT: dict[str, Any] = {
    "type": "object",
    "description": "One Grant under which rows were, or may have been, released",
    "properties": {
        "grant": {**_TEXT, "description": "id of the Grant"},
        "decision": {**_TEXT, "description": "id of the Decision that made it"},
        "purpose": {**_TEXT, "description": "what the rows may be used for"},
        "policyEpoch": {**_COUNT, "description": "PolicyEpoch of the Decision"},
        "columns": {"type": "array", "items": _TEXT, "description": "columns released"},
        "masks": {
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "mask by column; a column without one came as it is",
        },
        "rowsDelivered": {**_COUNT, "description": "rows confirmed up to this event"},
        "rowsAtMost": {**_COUNT, "description": "rows intended: what may have left"},
        "revokedAt": {**_TEXT, "format": "date-time", "description": "when it was taken back"},
    },
    "required": ["grant", "decision", "purpose", "columns", "masks", "rowsDelivered", "rowsAtMost"],
    "additionalProperties": True,
}
_LOG: dict[str, Any] = {
    "type": "object",
    "description": "Where the journal has what this event says, and a LogCheckpoint that covers it",
    "properties": {
        "node": _TEXT,
        "index": {**_COUNT, "description": "of the journal event that caused this one"},
        "size": {**_COUNT, "description": "tree size of the LogCheckpoint"},
        "root": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "RFC 6962 root"},
    },
    "required": ["node", "index", "size", "root"],
    "additionalProperties": True,
}


def schema(issuer: str = "") -> dict[str, Any]:
    """The JSON Schema of the facet, as the gateway at `issuer` names it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": issuer + SCHEMA_PATH,
        "title": "Dataset Gateway: access",
        "$defs": {
            KIND: {
                "allOf": [
                    {
                        "$ref": "https://openlineage.io/spec/2-0-2/OpenLineage.json"
                        "#/$defs/InputDatasetFacet"
                    },
                    {
                        "type": "object",
                        "properties": {
                            "grants": {"type": "array", "items": _GRANT},
                            "log": _LOG,
                        },
                        "required": ["grants", "log"],
                    },
                ],
                "type": "object",
            }
        },
        "type": "object",
        "properties": {FACET: {"$ref": f"#/$defs/{KIND}"}},
    }


def schema_url(issuer: str) -> str:
    """What `_schemaURL` of the facet says."""
    return f"{issuer}{SCHEMA_PATH}#/$defs/{KIND}"
