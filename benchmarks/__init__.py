"""What ssmtunneld costs, how fast it is, and whether it stays so."""
