"""Amino acid sequences as a modality."""
