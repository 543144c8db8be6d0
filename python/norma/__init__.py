"""Normalization layers for NumPy arrays: right, the same bits everywhere, fast."""

from norma._norma import get_num_threads, isa, set_num_threads

__all__ = ["get_num_threads", "isa", "set_num_threads"]
