"""Read an encrypted export with polars 2.1 or newer: KEYS DIR OUT.arrow [PHYSICAL COLUMN]."""

import base64
import json
import sys
from pathlib import Path

import polars as pl


def main(keys_path: str, folder: str, out: str, *columns: str) -> None:
    given = json.loads(Path(keys_path).read_text())
    names = {column["physical"]: column["name"] for column in given["columns"]}
    keys = {name: base64.b64decode(key) for name, key in given["keys"].items()}
    frames = []
    for file in given["files"]:
        properties = pl.ParquetDecryptionProperties(
            footer_key=keys[file["footer_key"]],
            column_keys={path: keys[name] for path, name in file["column_keys"].items()},
        )
        path = Path(folder) / "data" / file["name"]
        frames.append(pl.read_parquet(path, columns=list(columns or names), decryption=properties))
    frame = pl.concat(frames)
    frame.rename({old: names.get(old, old) for old in frame.columns}).write_ipc(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
