"""Which block to ask of whom, and what to answer; sans-IO."""
