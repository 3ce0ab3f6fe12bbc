"""Prediction over folders."""
