"""What the gateway tells of itself: metrics and logs. Business code imports none of it."""
