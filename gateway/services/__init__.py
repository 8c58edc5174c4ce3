"""One module per journey; each public function is one journey's straight line."""
