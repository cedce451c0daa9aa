"""Google's image model behind the ImageModel port. Image bytes bypass the SDK."""
