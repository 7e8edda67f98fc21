"""The labelling application: people make preference data in a web page, and no label is lost."""
