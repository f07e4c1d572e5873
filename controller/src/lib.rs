//! Controllers and the scheduler: observe, plan, act over a kube client.
