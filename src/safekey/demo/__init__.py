"""What `safekey demo` tells: the organism's grid, and what may and may not be read off it."""
