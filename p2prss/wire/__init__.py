"""The encrypted, multiplexed connection between two peers; sans-IO."""
