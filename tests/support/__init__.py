"""What the tests share: recordings, real servers, and what hostile peers send."""
