"""The pure core: no threads, sockets, clock or randomness. Time comes in as ``now`` (s)."""
