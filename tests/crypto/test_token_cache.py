"""A token is verified once, and never believed longer than it lives."""

from __future__ import annotations

import pytest

from gateway.crypto.token_cache import VerifiedTokens
from gateway.crypto.tokens import TokenClaims, verify
from gateway.errors import NotAuthenticated
from tests.crypto.test_tokens import GOOD, KEYS, NOW, TOKEN, at


def test_what_is_not_accepted_is_asked_again_and_never_kept() -> None:
    known, asked = VerifiedTokens(), []

    def refuse(token: str) -> TokenClaims:
        asked.append(token)
        raise NotAuthenticated("no")

    for text in ("x", "x", "x\ud800"):
        with pytest.raises(NotAuthenticated):
            known.claims_of(text, NOW, refuse)
    assert len(asked) == 3


def test_a_changed_token_is_another_and_an_expired_one_is_verified_again() -> None:
    known = VerifiedTokens()

    def read(token: str, now: float = NOW) -> TokenClaims:
        return verify(token, KEYS, GOOD.audience, at(now))

    def never(token: str) -> TokenClaims:
        raise AssertionError(token)

    first = known.claims_of(TOKEN, NOW, read)
    assert known.claims_of(TOKEN, GOOD.expires_at - 0.1, never) is first
    with pytest.raises(NotAuthenticated):
        known.claims_of(TOKEN[:-2] + "AA", NOW, read)
    end = GOOD.expires_at
    with pytest.raises(NotAuthenticated, match="exp"):
        known.claims_of(TOKEN, end, lambda token: read(token, end))


def test_it_keeps_no_more_than_it_may() -> None:
    known, asked = VerifiedTokens(capacity=2), []

    def read(token: str) -> TokenClaims:
        asked.append(token)
        return GOOD

    for token in ("a", "b", "c", "c", "b", "a"):
        known.claims_of(token, NOW, read)
    assert asked == ["a", "b", "c", "a"]
