"""From proteins to features."""
