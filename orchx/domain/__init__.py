"""The pure core: documents, events, evolve, decide. No clock, no randomness, no I/O."""
