"""What happens to pixels before the network and to its maps afterwards."""
