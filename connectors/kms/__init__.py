"""Plugs: kms."""
