"""What people say: answers that are checked, kept, and become annotations."""
