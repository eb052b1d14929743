"""All that blocks: threads, sockets, locks. Decisions are taken in ``wsclient.sansio``."""
