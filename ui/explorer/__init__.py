"""Browse and search a dataset; the SQL box."""
