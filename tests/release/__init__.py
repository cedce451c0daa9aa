"""What must hold of a release: one version, a changelog, documents and locks that are current, licences."""
