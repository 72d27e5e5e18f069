"""The GANs that the paper compares with: a source GAN, and six ways to adapt it to few images."""
