"""One browser session: its page, its panes, its state."""
