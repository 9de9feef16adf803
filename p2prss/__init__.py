"""Peer-to-peer podcasts on the Hypercore network."""

__version__ = "0.1.0"
