"""Room of Parquet: sealing, reading, filtering and masking, in confined children."""
