"""Models in a browser: ONNX files, the runtime that reads them, and the page that draws with them."""
