"""Numbers that states, banks and card schemes give to people: whether a text is one by its rule.

Each function takes a text that already has the right shape (shards/hints.py) and answers by
the published check digits. Written by hand, because all of it would load in every sealer,
beside hostile bytes: python-stdnum (LGPL) has hundreds of formats of things as well as people,
phonenumbers is tens of megabytes, and presidio brings spaCy and a language model, to find names
in prose, where we look at columns. tests/shards/test_hint_properties.py checks ours.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

_NOT_ALNUM = re.compile(r"[^0-9A-Za-z]")
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_SIGNS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_CF_ODD = dict(
    zip(
        string.digits + string.ascii_uppercase,
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21,
         2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


def compact(text: str) -> str:
    """Letters and digits only, upper case."""
    return _NOT_ALNUM.sub("", text).upper()


def _digits(text: str) -> list[int]:
    return [int(char) for char in text]


def _weighted(digits: Iterable[int], weights: Iterable[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=True))


def _is_date(month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= 31  # noqa: PLR2004 - a calendar


def luhn(text: str) -> bool:
    """ISO/IEC 7812: payment cards, Swedish numbers."""
    total = 0
    for place, digit in enumerate(reversed(_digits(compact(text)))):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled  # noqa: PLR2004 - the digit sum
    return total % 10 == 0


def iban(text: str) -> bool:
    """ISO 13616: mod 97 over the text with its first four characters moved to the end."""
    plain = compact(text)
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(char, 36)) for char in moved)) % 97 == 1


def us_ssn(text: str) -> bool:
    """United States: no check digit; areas, groups and serials that are never given."""
    area, group, serial = text[:3], text[4:6], text[7:]
    return area not in {"000", "666"} and area[0] != "9" and group != "00" and serial != "0000"


def de_steuer_id(text: str) -> bool:
    """Germany: ISO 7064 MOD 11,10; one digit of the first ten stands twice or three times."""
    digits = _digits(compact(text))
    most = max(digits[:10].count(digit) for digit in set(digits[:10]))
    product = 10
    for digit in digits[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return digits[0] != 0 and most in {2, 3} and (11 - product) % 10 == digits[10]


def fr_nir(text: str) -> bool:
    """France: 97 minus the rest of the first 13 characters (Corsica: 2A is 19, 2B is 18)."""
    plain = compact(text)
    number = int(plain[:13].replace("2A", "19").replace("2B", "18"))
    return 97 - number % 97 == int(plain[13:])


def es_dni(text: str) -> bool:
    """Spain: DNI and NIE, the letter of the number modulo 23."""
    plain = compact(text)
    number = plain[:-1].translate(str.maketrans("XYZ", "012"))
    return _DNI_LETTERS[int(number) % 23] == plain[-1]


def it_codice_fiscale(text: str) -> bool:
    """Italy: the check letter over odd and even places."""
    plain = compact(text)
    even = [int(char, 36) - (10 if char.isalpha() else 0) for char in plain[1:15:2]]
    total = sum(_CF_ODD[char] for char in plain[0:15:2]) + sum(even)
    return string.ascii_uppercase[total % 26] == plain[15]


def nl_bsn(text: str) -> bool:
    """The Netherlands: the eleven test."""
    digits = _digits(compact(text))
    return any(digits) and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def uk_nhs(text: str) -> bool:
    """United Kingdom: the NHS number, modulo 11."""
    digits = _digits(compact(text))
    check = 11 - _weighted(digits[:9], range(10, 1, -1)) % 11
    return any(digits) and check % 11 == digits[9]


def be_nrn(text: str) -> bool:
    """Belgium: 97 minus the number modulo 97, with a leading 2 from the year 2000 on."""
    plain = compact(text)
    number, check = int(plain[:9]), int(plain[9:])
    is_date = int(plain[2:4]) % 20 <= 12 and int(plain[4:6]) <= 31  # noqa: PLR2004 - may be unknown
    return is_date and check in {97 - number % 97, 97 - (2_000_000_000 + number) % 97}


def pl_pesel(text: str) -> bool:
    """Poland: weights 1, 3, 7, 9 over a date with the century in its month."""
    digits = _digits(compact(text))
    month, day = digits[2] * 10 + digits[3], digits[4] * 10 + digits[5]
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
    return _is_date(month % 20, day) and _weighted(digits, weights) % 10 == 0


def se_personnummer(text: str) -> bool:
    """Sweden: Luhn over the last ten digits, a date in front (coordination numbers: day + 60)."""
    plain = compact(text)[-10:]
    return _is_date(int(plain[2:4]), int(plain[4:6]) % 60) and luhn(plain)


def fi_hetu(text: str) -> bool:
    """Finland: the sign of the nine digits modulo 31."""
    digits = text[:6] + text[7:10]
    return _is_date(int(text[2:4]), int(text[:2])) and _HETU_SIGNS[int(digits) % 31] == text[10]


def br_cpf(text: str) -> bool:
    """Brazil: two digits modulo 11."""
    digits = _digits(compact(text))
    first = _weighted(digits[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = _weighted(digits[:10], range(11, 1, -1)) * 10 % 11 % 10
    return len(set(digits)) > 1 and [first, second] == digits[9:]
