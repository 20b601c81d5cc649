//! DockerCoins, the sample application: rng, hasher, worker and webui.
