"""Plugs: loaders."""
