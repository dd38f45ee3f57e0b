"""What processes print, kept in files: how it is taken, read, bounded, dated and given up."""
