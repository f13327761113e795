"""What the capabilities are made of: files, units, packages, repositories, the run lock."""
