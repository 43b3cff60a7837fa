"""What lies under the simulated beam, and how a camera sees it: pure, so that the API may draw it, too."""
