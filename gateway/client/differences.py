"""What differs between two versions, out of what the caller is told of both."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from gateway.errors import IntegrityError

Shown = Mapping[str, Any]  # a DatasetDetail as plain values


def differences(before: Shown, after: Shown, shards: Mapping[str, int] | None) -> dict[str, Any]:
    """Compare two descriptions.

    Args:
        before: a DatasetDetail.
        after: another, of the same dataset or not.
        shards: how many are shared, added, removed; None to those who may not know.
    """
    return {
        "before": f"{before['dataset']}@{before['version']}",
        "after": f"{after['dataset']}@{after['version']}",
        "columns": _columns(before, after),
        "tags": _changed(_tags(before), _tags(after)),
        "rows": {"before": before["rows"], "after": after["rows"]},
        "splits": _changed(_rows(before), _rows(after)),
        "card": _changed(before["card"], after["card"]),
        "shards": dict(shards) if shards is not None else None,
    }


def shard_counts(before: Any, after: Any) -> dict[str, int]:
    """Out of two signed Manifests as the gateway shows them to their owner."""
    old, new = _shards(before), _shards(after)
    return {"shared": len(old & new), "added": len(new - old), "removed": len(old - new)}


def _shards(document: Any) -> set[str]:
    """Shard ids; the signature is the gateway's own business, the transport is authenticated."""
    try:
        payload = json.loads(base64.b64decode(document["payload"]))
        manifest = json.loads(base64.b64decode(payload["manifest"]))
        return {str(shard["id"]) for shard in manifest["shards"]}
    except (KeyError, TypeError, ValueError) as cause:
        raise IntegrityError("the manifest cannot be read") from cause


def _by_name(items: Any) -> dict[str, Shown]:
    return {item["name"]: item for item in items}


def _columns(before: Shown, after: Shown) -> dict[str, list[str]]:
    """Within one dataset, a column of another field id is another one, whatever its name."""
    old, new = _by_name(before["columns"]), _by_name(after["columns"])
    is_same = before["dataset"] == after["dataset"]
    both = [name for name in new if name in old]
    return {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "retyped": [
            f"{name}: {old[name]['type']} -> {new[name]['type']}"
            for name in both
            if old[name]["type"] != new[name]["type"]
        ],
        "replaced": [
            name
            for name in both
            if is_same
            and old[name]["type"] == new[name]["type"]
            and old[name]["field_id"] != new[name]["field_id"]
        ],
    }


def _tags(shown: Shown) -> dict[str, Any]:
    return {column["name"]: column["tags"] for column in shown["columns"]}


def _rows(shown: Shown) -> dict[str, Any]:
    return {split["name"]: split["rows"] for split in shown["splits"]}


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What stands on one side only (null on the other), or differs."""
    names = dict.fromkeys((*old, *new))
    return {
        name: {"before": old.get(name), "after": new.get(name)}
        for name in names
        if old.get(name) != new.get(name)
    }
