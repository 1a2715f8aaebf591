"""Training of Mini's frozen base: autoencoder, CLIP towers, UNet. The SSR-Encoder itself is trained by ssr_core/training."""
