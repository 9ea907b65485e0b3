"""What a file or folder is, how it was made, and what can be done with it next."""
