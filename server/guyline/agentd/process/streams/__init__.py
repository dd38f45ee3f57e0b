"""What goes into a process and comes out of it: pipes, terminals, the way into the journal, followers, views."""
