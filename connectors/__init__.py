"""Plugs for the ports and the training frameworks, found by entry point and URI scheme."""
