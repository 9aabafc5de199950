"""From the official archives of a test set, as a user fetched them, to aligned faces and pairs for a suite."""
