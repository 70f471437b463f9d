"""Distillation: what a student learns from a teacher's outputs besides what the labels say."""
