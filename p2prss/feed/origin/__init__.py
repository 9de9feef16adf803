"""The way to an origin: addresses, vetting them, getting bodies."""
