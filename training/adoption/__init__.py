"""Adopt an ONNX file of others: write it again with our input, decoded outputs, a contract and golden frames."""
