"""What goes into a prediction: files, their pixels and where they lie in space."""
