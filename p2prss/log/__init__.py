"""The Hypercore log: a signed, append-only, sparsely replicable list of blocks."""
