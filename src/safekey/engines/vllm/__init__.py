"""vLLM, started by safekey on a checkpoint, used as any server, and ended with the evaluation."""
