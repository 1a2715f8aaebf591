"""One folder for each method: its maths, data and file formats. A method knows the shared vocabulary, no other method and no host."""
