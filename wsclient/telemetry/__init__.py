"""Histograms, rates and the statistics that callers get. Pure."""
