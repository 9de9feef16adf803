"""Bytes to values and back: compact-encoding, the protobuf subset of Hyperbee, z-base-32."""
