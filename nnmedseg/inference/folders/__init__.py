"""Predictions over folders that are noted, overlap, and go on where they ended."""
