"""The main job end to end on real data, through the public interfaces only."""
