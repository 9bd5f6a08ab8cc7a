"""Wave Accounting as a source."""
