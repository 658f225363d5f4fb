"""Judges the SQL of revisions before they meet a database that is in use."""
