"""What the labels are worth: agreement, disputes, hours."""
