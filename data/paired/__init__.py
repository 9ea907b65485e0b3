"""Matched items of two kinds as folders and lists describe them."""
