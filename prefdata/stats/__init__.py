"""Statistics of preferences: pure mathematics on arrays, without tables or files."""
