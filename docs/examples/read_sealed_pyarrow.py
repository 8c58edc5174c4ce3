"""Read an encrypted export with stock pyarrow: KEYS DIR OUT.arrow [PHYSICAL COLUMN]."""

import base64
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe


class KeyFile(pe.KmsClient):
    """Gives the keys of a key file by the names that the sealed files use."""

    def __init__(self, keys: dict[str, str]) -> None:
        super().__init__()
        self.keys = keys

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        raise NotImplementedError("this client only reads")

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        if wrapped_key not in self.keys:
            raise PermissionError(f"the key file has no key {wrapped_key}")
        return base64.b64decode(self.keys[wrapped_key])


def main(keys_path: str, folder: str, out: str, *columns: str) -> None:
    given = json.loads(Path(keys_path).read_text())
    names = {column["physical"]: column["name"] for column in given["columns"]}
    tables = []
    for file in given["files"]:
        client = KeyFile(given["keys"])
        properties = pe.CryptoFactory(lambda _, client=client: client).file_decryption_properties(
            pe.KmsConnectionConfig(), pe.DecryptionConfiguration()
        )
        path = Path(folder) / "data" / file["name"]
        # One thread: the key client is Python, and pyarrow's own threads may outlive it.
        with pq.ParquetFile(path, decryption_properties=properties, pre_buffer=False) as reader:
            wanted = list(columns or names)  # approved columns only
            tables.append(reader.read(columns=wanted, use_threads=False))
    table = pa.concat_tables(tables)
    table = table.rename_columns([names.get(name, name) for name in table.schema.names])
    with pa.OSFile(out, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
