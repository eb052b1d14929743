"""Waiting, waking and locking that interrupts cannot break; knows nothing of clients."""
