"""Google's image model behind the ImageModel port: one call, one attempt, image bytes past the SDK."""
