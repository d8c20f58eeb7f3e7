"""Middleboxes written for the guest library. `middleboxes.forward` is the smallest; start reading there."""
