"""Logical constraints on the outputs of a multi-label network: notation, audit, circuit, semantic loss."""
