"""A scene or a run -> what the model still saw: HTML page, MCAP recording, MP4."""
