"""Bills of materials of the images, and the version that a release must carry everywhere."""
