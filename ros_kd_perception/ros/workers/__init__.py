"""Worker processes that take, prepare and publish the frames of cameras beside the process that runs the network."""
