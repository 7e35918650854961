"""Make safety data with reasoning: requests in, training rows out, in stages that a kill cannot spoil."""
