"""Short texts as a modality."""
