"""Text-to-image: captions, latents, the methods that adapt a Stable-Diffusion-shaped source, and what they are asked."""
