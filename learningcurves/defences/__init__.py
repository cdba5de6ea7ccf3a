"""What protects a trained network, and the metrics that say how well."""
