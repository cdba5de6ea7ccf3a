"""Exact minimisers along beta, with certificates."""
