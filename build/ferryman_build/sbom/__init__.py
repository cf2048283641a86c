"""What a program consists of: a software bill of materials, made from its tree.

    tree, wheels, interpreter ─▶ ownership ─▶ Inventory ─▶ CycloneDX 1.6 ─▶ embedded, attached ─▶ SPDX 2.3

Every file of a tree belongs to exactly one component (docs/sbom.md says which). Versions of native libraries are read from
the bytes that ship; where these do not say, the document says that.
"""
