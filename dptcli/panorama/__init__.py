"""Equirectangular panoramas: cut into perspective views, and their depth joined on the sphere."""
