"""Tests of the ledger: jobs, attempts, holds."""
