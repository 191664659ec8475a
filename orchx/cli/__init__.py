"""The orchx command line."""
