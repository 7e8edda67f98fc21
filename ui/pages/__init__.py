"""The pages of the labelling application, one module each: `build(service)` returns Gradio Blocks."""
