"""The commands: arguments in, one call of the Python API, exit code out."""
