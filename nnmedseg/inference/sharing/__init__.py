"""Models as files for others: archives and ONNX."""
