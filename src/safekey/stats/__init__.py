"""Statistics on plain numbers: intervals, paired tests, variance, power, agreement."""
