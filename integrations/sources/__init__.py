"""Systems that records are read from: a folder each."""
