"""Models that answer requests, and the client that caches, retries, counts and pays for them."""
