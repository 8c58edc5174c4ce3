"""Tags of persons: AES-256-CMAC of a canonical id, cut to 8 bytes, many at once.

By hand because `cryptography` takes one message per call, 20 times the price of this: a
registration tags every row. Each step of the CMAC is one call of AES over all ids of one
length. Follows NIST SP 800-38B; docs/formats/person-index-v1.md section 2. A test holds it
against `cryptography`'s own CMAC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

from gateway.crypto.envelope import KEY_BYTES
from gateway.errors import InvalidInput

TAG_BYTES = 8  # 10 million persons: one who is not there is found with probability 5e-13
_BLOCK = 16
_FEEDBACK = 0x87  # of doubling in GF(2^128)

Tags = NDArray[np.uint64]
Octets = NDArray[np.uint8]


class Tagger:
    """Tags under the key of one dataset."""

    def __init__(self, key: bytes) -> None:
        """Take the dataset's index key, 32 bytes."""
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        self._aes: CipherContext = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - inside CMAC
        whole = _doubled(self._aes.update(bytes(_BLOCK)))
        self._last = [np.frombuffer(k, np.uint8) for k in (whole, _doubled(whole))]

    def tag(self, canonical: bytes) -> int:
        """The tag of one id."""
        ends = np.array([0, len(canonical)], np.int64)
        return int(self.tags(np.frombuffer(canonical, np.uint8), ends)[0])

    def tags(self, data: Octets, offsets: NDArray[np.int64]) -> Tags:
        """The tag of each id `data[offsets[i]:offsets[i + 1]]`, in their order."""
        lengths = np.diff(offsets)
        found = np.empty(len(lengths), np.uint64)
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        for rows in np.split(order, cuts):
            if len(rows):
                length = int(lengths[rows[0]])
                starts = offsets[rows]
                if len(rows) == len(lengths):  # all of one length: they lie side by side
                    ids = data[starts[0] : starts[0] + len(rows) * length].reshape(
                        len(rows), length
                    )
                else:
                    ids = data[starts[:, None] + np.arange(length)]
                found[rows] = self._of_one_length(ids)
        return found

    def _of_one_length(self, ids: Octets) -> Tags:
        count, length = ids.shape
        blocks = max(1, -(-length // _BLOCK))
        padded = np.zeros((count, blocks * _BLOCK), np.uint8)
        padded[:, :length] = ids
        is_cut = length != blocks * _BLOCK
        if is_cut:
            padded[:, length] = 0x80
        padded[:, -_BLOCK:] ^= self._last[is_cut]
        state: Any = np.zeros((count, _BLOCK), np.uint8)
        for at in range(0, blocks * _BLOCK, _BLOCK):
            mixed = np.ascontiguousarray(state ^ padded[:, at : at + _BLOCK])
            sealed = self._aes.update(mixed.data.cast("B"))
            state = np.frombuffer(sealed, np.uint8).reshape(count, _BLOCK)
        return np.ascontiguousarray(state[:, :TAG_BYTES]).view("<u8").reshape(count)


def _doubled(block: bytes) -> bytes:
    number = int.from_bytes(block, "big") << 1
    if number >> (8 * _BLOCK):
        number = (number & ((1 << 8 * _BLOCK) - 1)) ^ _FEEDBACK
    return number.to_bytes(_BLOCK, "big")
