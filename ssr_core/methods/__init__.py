"""One folder a method: its maths, its data and its file formats. A method knows the shared vocabulary, no other method and no host."""
