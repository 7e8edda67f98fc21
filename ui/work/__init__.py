"""What people are asked to do: projects, their tasks, and who gets which."""
