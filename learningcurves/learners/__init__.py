"""Convex learners, their losses, and fitted scikit-learn estimators mapped to them."""
