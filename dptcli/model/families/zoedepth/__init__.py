"""ZoeDepth: BEiT, a DPT neck, metric bins over relative depth."""
