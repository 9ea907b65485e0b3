"""What belongs together: pairs, and who is held out."""
