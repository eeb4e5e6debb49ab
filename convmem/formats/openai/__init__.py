"""What has the shape of OpenAI's APIs, and ShareGPT: datasets, items, and the way out to them."""
