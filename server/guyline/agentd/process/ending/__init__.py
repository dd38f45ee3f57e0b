"""How processes end and who has a say in it: signals, ladders, cancels, limits of time; and when they are forgotten."""
