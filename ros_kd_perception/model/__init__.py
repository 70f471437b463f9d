"""The student model on disk and at run time: contract, ONNX session, golden frames, letterbox and box overlap."""
