"""The operators between import and export: one module each."""
