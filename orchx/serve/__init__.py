"""Ray Serve deployments: ingestion, scoring, console."""
