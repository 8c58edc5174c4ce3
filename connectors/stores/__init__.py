"""Plugs: stores."""
