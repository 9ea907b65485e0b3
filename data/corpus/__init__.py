"""The corpus: proteins in one file, and how it is made."""
