-- What the programs of this cluster have to agree on.
return {
  redis = os.getenv "REDIS_URL" or "redis://127.0.0.1:6379",
  namespace = os.getenv "CLUSTER_NAMESPACE" or "example",
}
