"""Data sets, and the problem a backdoor learning curve is computed on."""
