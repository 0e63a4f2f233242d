"""AI customer service on WhatsApp for many businesses, mirrored to Slack and run from a terminal."""

__version__ = "0.1.0"
