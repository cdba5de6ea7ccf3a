"""Learning curves, slopes, deviation, influence."""
