"""Diagnosis of a connection: each step from this machine to a venue, timed, with advice."""
