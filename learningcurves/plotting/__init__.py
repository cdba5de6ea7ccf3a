"""One Display a figure; each draws from tables and arrays, never from a model."""
