"""A tree of files on two logs: Hyperbee, Hyperblobs, Hyperdrive."""
