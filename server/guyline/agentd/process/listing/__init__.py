"""Which processes there are: queries and their pages, what has changed, who watches, what they use."""
