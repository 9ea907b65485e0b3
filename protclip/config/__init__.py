"""Every option, declared once, and the one way from flat options to a checked configuration."""
