"""Notebooks: frames of messages, and live tables of clients and order books."""
