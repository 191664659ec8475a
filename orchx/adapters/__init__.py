"""The ports made with one technology per file: SQLite, Kafka, Redis, MongoDB."""
