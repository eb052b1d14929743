"""The golden trace: what a client does at its public edge, recorded to be compared."""
