"""Behaviour of the package, through its public names."""
