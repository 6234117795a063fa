/** Resolvers as users run them: `serve --mode resolver`, each a process of its own. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Node, type Running, scratchDir, startNode } from "./_processes.ts";
import { NAMESPACE } from "./_work.ts";

export interface ResolverOptions {
  readonly name: string;
  /** Servers that it reads. */
  readonly upstreams: readonly Pick<Running, "grpc">[];
  /** What it follows; `NAMESPACE` when absent. */
  readonly namespaces?: readonly string[];
  /** Time between two comparisons of its digests with those of its upstream; the default of `resolver.resync_interval` when absent. */
  readonly resyncInterval?: string;
  readonly isPlain?: boolean;
}

/** Starts one on whatever core there is, and waits until it holds all that it follows. */
export async function startResolver(options: ResolverOptions): Promise<Node> {
  const { name, upstreams, namespaces = [NAMESPACE], resyncInterval, isPlain = true } = options;
  const dataDir = scratchDir(name);
  const addresses = upstreams.map(({ grpc }) => `${grpc.host}:${grpc.port}`);
  const resolver = { upstreams: addresses, namespaces, ...(resyncInterval !== undefined && { resync_interval: resyncInterval }) };
  const config = join(dataDir, "resolver.json");
  writeFileSync(config, JSON.stringify({ resolver }));
  const args = ["--mode", "resolver", "--node-id", name, "--config", config];
  return startNode({ dataDir, isFree: true, isPlain, args });
}
