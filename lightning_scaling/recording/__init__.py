"""Recording: the loss of every step, kept on its device and fetched without a synchronisation."""
