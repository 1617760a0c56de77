"""From labelled text to a verified ONNX bundle, and fast batch-invariant inference with it."""
