"""`safekey tamper`: attacks on the weights of a model on this machine."""
