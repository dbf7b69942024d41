"""Bundles on disk: written in one step, verified before use, without a pickle."""

from coppice_pruner.bundle.export import export_bundle
from coppice_pruner.bundle.load import BundleRefusedError, bundle_digest, load_bundle, read_manifest

__all__ = ["BundleRefusedError", "bundle_digest", "export_bundle", "load_bundle", "read_manifest"]
