"""Plugs: identity."""
