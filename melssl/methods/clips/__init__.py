"""Pretext methods that look at how pictures move."""
