"""Triggers, and the training sets that carry them."""
