"""The pure core: words, values and rules, without the ORM and without HTTP."""
