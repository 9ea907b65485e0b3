"""Files from elsewhere: fetched, unpacked, read."""
