"""Quantisation of exported files: 8-bit integers for CPUs and TensorRT, half precision for CUDA."""
