"""The HTML report and the FiftyOne dataset."""
