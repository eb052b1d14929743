"""Recordings: what a client received, with what it missed, kept in files and played again."""
