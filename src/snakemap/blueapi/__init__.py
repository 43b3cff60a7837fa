"""Plans and tasks of blueapi."""
