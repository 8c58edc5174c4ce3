"""Room of `duckdb`: what happened, projected from the journal for auditors."""
