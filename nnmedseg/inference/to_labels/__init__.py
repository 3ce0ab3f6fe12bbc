"""From slabs of logits to labels at an image's own size."""
