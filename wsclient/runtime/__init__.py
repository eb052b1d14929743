"""Everything that blocks: threads, sockets, locks. ``wsclient.sansio`` makes the decisions."""
