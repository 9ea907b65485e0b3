"""Losses of the alignment objective; they know nothing of proteins."""
