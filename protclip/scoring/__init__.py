"""Plain arrays in, numbers out."""
