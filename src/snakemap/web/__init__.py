"""Parts shared by both web servers."""
