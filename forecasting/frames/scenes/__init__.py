"""The parts of a simulated scene: physics, camera, shading, labels."""
