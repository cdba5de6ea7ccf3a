"""How easily does a model learn a backdoor? Learning curves, slopes and deviation, exact and with certificates."""
