"""prefdata: make preference datasets and train on them."""
