"""What every part leans on: errors, files, the device, checkpoints, drawn faces. Imports nothing of the library but itself."""
