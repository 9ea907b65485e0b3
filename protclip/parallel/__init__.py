"""Several processes as one: the only two modules that know how torch does it."""
