"""RSS feeds: fetching, reading, mirroring into a drive, rendering."""
