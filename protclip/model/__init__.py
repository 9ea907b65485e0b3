"""The network and its folder on disk."""
