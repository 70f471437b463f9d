"""Foreign networks: what the inputs and outputs of an ONNX file of others mean, and a graph with ours around it."""
