"""Blocks that more than one of the papers uses."""
