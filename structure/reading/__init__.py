"""From structure files and objects to proteins."""
