"""The operator judge: one module per kind of annotator."""
