"""Ordinary feeds and the swarm: the key that a feed names, and the feed that names its key."""
