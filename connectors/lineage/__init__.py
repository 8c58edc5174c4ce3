"""Plugs: lineage."""
