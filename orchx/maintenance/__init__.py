"""What an operator does to the stores as a whole: verify, replace, repartition."""
