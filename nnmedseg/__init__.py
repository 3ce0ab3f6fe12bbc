"""nnmedseg: find out which published architecture segments your images best, and run it."""
