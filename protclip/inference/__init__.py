"""Items in, vectors out."""
