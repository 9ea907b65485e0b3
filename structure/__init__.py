"""A protein as geometry."""
