"""Write the vectors of decryption-keys-v1: the keys of the published encrypted files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "decryption-keys-v1"
OK: dict[str, Any] = {
    "format": "gateway-decryption-keys/v1",
    "footer_key": "MDEyMzQ1Njc4OTAxMjM0NQ==",
    "column_keys": {
        "double_field": "MTIzNDU2Nzg5MDEyMzQ1MA==",
        "float_field": "MTIzNDU2Nzg5MDEyMzQ1MQ==",
    },
    "aad_prefix": "dGVzdGVy",
}
BAD: dict[str, Any] = {
    "bad-array": [OK],
    "bad-column-keys": {**OK, "column_keys": ["MTIzNDU2Nzg5MDEyMzQ1MA=="]},
    "bad-format": {**OK, "format": "gateway-export-keys/v1"},
    "bad-key-length": {**OK, "footer_key": "MDEyMzQ1Njc4OTAx"},
    "bad-no-footer-key": {k: v for k, v in OK.items() if k != "footer_key"},
    "bad-not-base64": {**OK, "column_keys": {"double_field": "1234567890123450!"}},
    "bad-prefix": {**OK, "aad_prefix": ["tester"]},
    "bad-unknown-member": {**OK, "columns_keys": {}},
}


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for name, value in {"ok-columns-and-prefix": OK, **BAD}.items():
        (HERE / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    twice = json.dumps(OK)[:-1] + f', "footer_key": "{OK["footer_key"]}"}}\n'
    (HERE / "bad-key-twice.json").write_text(twice, "utf-8")


if __name__ == "__main__":
    main()
