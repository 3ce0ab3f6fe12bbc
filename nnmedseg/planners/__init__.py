"""Planning: fingerprint, resolution, patch and batch for every architecture, preprocessing."""
