"""Features, policies, reward, drift, evaluation, experiments: how outcomes change decisions."""
