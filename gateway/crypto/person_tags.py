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

TAG_BYTES = (
    8  # the first word; 10 million persons: one who is not there is found with probability 5e-13
)
_BLOCK, _WORDS, _WORD = 16, 2, np.dtype("<u8")
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
        self._last = [np.frombuffer(k, _WORD) for k in (whole, _doubled(whole))]

    def tag(self, canonical: bytes) -> int:
        """The tag of one id."""
        ends = np.array([0, len(canonical)], np.int64)
        return int(self.tags(np.frombuffer(canonical, np.uint8), ends)[0])

    def tags(self, data: Octets, offsets: NDArray[np.int64]) -> Tags:
        """The tag of each id `data[offsets[i]:offsets[i + 1]]`, in their order."""
        lengths = np.diff(offsets)
        if len(lengths) and (lengths == lengths[0]).all():  # they lie side by side
            ids = data[offsets[0] : offsets[-1]].reshape(len(lengths), int(lengths[0]))
            return self._of_one_length(ids)
        found = np.empty(len(lengths), np.uint64)
        order = np.argsort(lengths, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
            if len(rows):
                places = offsets[rows][:, None] + np.arange(lengths[rows[0]])
                found[rows] = self._of_one_length(data[places])
        return found

    def _of_one_length(self, ids: Octets) -> Tags:
        count, length = ids.shape
        blocks = max(1, -(-length // _BLOCK))
        is_cut = length != blocks * _BLOCK
        if is_cut:
            padded = np.zeros((count, blocks * _BLOCK), np.uint8)
            padded[:, :length] = ids
            padded[:, length] = 0x80
            ids = padded
        words = np.ascontiguousarray(ids).view(_WORD)
        state: Any = None
        for at in range(0, words.shape[1], _WORDS):
            block = words[:, at : at + _WORDS]
            if at + _WORDS == words.shape[1]:
                block = block ^ self._last[is_cut]
            if state is not None:
                block = block ^ state
            sealed = self._aes.update(np.ascontiguousarray(block).data.cast("B"))
            state = np.frombuffer(sealed, _WORD).reshape(count, _WORDS)
        return np.ascontiguousarray(state[:, 0])


def _doubled(block: bytes) -> bytes:
    number = int.from_bytes(block, "big") << 1
    if number >> (8 * _BLOCK):
        number = (number & ((1 << 8 * _BLOCK) - 1)) ^ _FEEDBACK
    return number.to_bytes(_BLOCK, "big")
