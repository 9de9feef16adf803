"""The document of a feed: read from whatever an origin sends, mended, and written again."""
