"""What is known about each paper's network, one constant a network, without importing PyTorch."""
