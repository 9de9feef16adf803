"""Keys, hashes and signatures of the Hypercore stack, over libsodium."""
