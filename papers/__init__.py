"""What the weeks of the curriculum have built so far, for later weeks to import. All but `papers.datasets` is generated from the solutions."""
