"""Connecting to a peer by its public key, wherever it is: Noise IK through the DHT, then a UDX stream."""
