"""Feed format 1 in a drive: read, written, and what its history tells."""
