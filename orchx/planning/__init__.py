"""From a request to a plan: bound definitions, synthesis over the catalog, classification."""
