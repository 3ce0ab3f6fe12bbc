"""Steps on label maps that cross-validation has shown to help."""
