"""The local HTTP side: RSS with local URLs, and media that may still be at a peer."""
