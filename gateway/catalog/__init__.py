"""What is: state folded from the journal, with signed snapshots."""
