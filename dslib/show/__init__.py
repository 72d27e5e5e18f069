"""Pictures for people: figures, sliders, and the page that a run leaves behind."""
