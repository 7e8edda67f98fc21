"""Two anonymous models answer, a person votes."""
