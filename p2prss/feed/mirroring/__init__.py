"""From an origin to a drive: what an update reads, captures and writes."""
