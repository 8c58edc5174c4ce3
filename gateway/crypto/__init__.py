"""Room of `cryptography` and `joserfc`: envelopes, vault, signatures, tokens, page opening."""
