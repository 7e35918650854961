"""The grid on a Slurm cluster: one Slurm job for each arm and seed."""
