"""Judging a model: the evidence, what the truth scores on it, and the verdict."""
