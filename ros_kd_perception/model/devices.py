"""The devices that a command line names. Reading them does not load ONNX Runtime."""

DEVICES = ("auto", "tensorrt", "cuda", "cpu")
