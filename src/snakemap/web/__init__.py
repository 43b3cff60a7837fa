"""What both web servers share."""
