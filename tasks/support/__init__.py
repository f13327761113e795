"""The parts that capabilities share: files, units, packages, repositories, the run lock."""
