"""How the rule of `data/segment.py` tells a sentence that restates the query from one that moves on."""
