"""Write the vectors of upload-part-v0 (nonces are random: run it only after a change)."""

from __future__ import annotations

from pathlib import Path

from gateway.shards.parts import write_part

HERE = Path(__file__).parent / "upload-part-v0"
KEY, PLACE = bytes(range(32)), "0/0"


def main() -> None:
    for name, size in (("ok-empty", 0), ("ok-small", 11), ("ok-text", 1000)):
        write_part(HERE / f"{name}.bin", KEY, [bytes(n % 251 for n in range(size))], place=PLACE)
    good = (HERE / "ok-small.bin").read_bytes()
    write_part(HERE / "bad-integrity-other-place.bin", KEY, [b"hello"], place="0/1")
    write_part(HERE / "bad-integrity-other-key.bin", bytes(32), [b"hello"], place=PLACE)
    bad = {
        "other-magic": b"GWUP1" + good[5:],
        "cut-off": good[:-1],
        "lengthened": good + b"\0",
        "flipped": good[:-1] + bytes([good[-1] ^ 1]),
        "empty-file": b"",
        "magic-alone": good[:8],
    }
    for name, data in bad.items():
        (HERE / f"bad-integrity-{name}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
