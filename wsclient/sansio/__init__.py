"""The pure core: no threads, sockets, clock or randomness. Time is passed in as ``now`` (s)."""
