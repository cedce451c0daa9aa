"""The bytes of images: stores for them, behind one port."""
