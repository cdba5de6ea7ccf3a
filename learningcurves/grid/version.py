"""Version of the mathematics behind the cells of a grid."""

#: Part of every cell's id. Raise it with any change that changes a number in a cell, so that old and new are never mixed.
MATHS_VERSION = 2
