"""Systems that documents are written to: a folder each."""
