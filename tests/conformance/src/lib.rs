//! Replays the recorded vectors against running servers and tells where they differ.
