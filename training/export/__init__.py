"""Export a checkpoint as one ONNX file with its contract, compared with torch."""
