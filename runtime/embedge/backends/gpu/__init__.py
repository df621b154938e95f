"""What both GPU backends share: a stream a lane, staging memory, captured graphs."""
