"""Plugs: sources."""
