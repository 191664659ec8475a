"""Thin Ray shells over the classes of orchx.engine, and the factory that makes them."""
