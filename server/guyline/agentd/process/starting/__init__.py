"""What is found out, checked and agreed upon before a command runs."""
