"""What an operator does from the shell."""
