"""What a prediction leaves: masks, overlays, probabilities."""
