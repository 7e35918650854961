"""What a report shows of attacks."""
