"""Generation of texts by trained models: strategies, constraints, filling of gaps, output."""
