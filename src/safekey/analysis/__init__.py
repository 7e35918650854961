"""What happened inside saved generations: diagnostics over plain records, without a model and without a judge."""
