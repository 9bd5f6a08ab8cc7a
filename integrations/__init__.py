"""Accounts, mappings, the webhook inbox, the pipeline and the systems it speaks to."""
