"""From a checkpoint to one ONNX file that holds its contract, checked against torch."""
