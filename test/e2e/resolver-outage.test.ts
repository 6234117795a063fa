/**
 * Lookups of programs while servers come and go: nodes restart one after the other, and then the resolver dies.
 * @module-tag night
 */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type Client, connect } from "../../src/client/index.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-outage-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const TOKEN = "token-of-everything";
const tokenFile = join(HOME, "token");
writeFileSync(tokenFile, TOKEN, { mode: 0o600 });
const clusterToken = join(HOME, "cluster.token");
writeFileSync(clusterToken, "a-token-of-the-outage-tests\n", { mode: 0o600 });

function settings(name: string, more: object = {}): readonly string[] {
  const credential = {
    tenant: "all",
    token_sha256: createHash("sha256").update(TOKEN).digest("hex"),
    roles: ["mesh.admin", "mesh.resolve"],
  };
  const path = join(HOME, `${name}.json`);
  const fabric = { cluster_token_file: clusterToken, interval: "400ms", ping_timeout: "250ms", join_timeout: "20s" };
  const base = { tenants: { mode: true, credentials: [credential] }, observability: { log_level: "warn" } };
  writeFileSync(path, JSON.stringify({ ...base, ...("resolver" in more ? {} : { fabric }), ...more }));
  return ["--node-id", name, "--config", path, "--data-dir", join(HOME, `data-${name}`)];
}

/** Of each lookup, other tries included. */
const TIMEOUT_MS = 10_000;
const connected = (...servers: readonly string[]) => connect({ servers, token: TOKEN, findServers: false, timeoutMs: TIMEOUT_MS });

/** Asks again and again until it is stopped; every answer has the entry, or is kept as a failure. */
class Asking {
  count = 0;
  slowestMs = 0;
  readonly failures: string[] = [];
  readonly #client: Client;
  readonly #namespace: string;
  readonly #done: Promise<void>;
  #isStopped = false;

  constructor(client: Client, namespace = "svc.market") {
    this.#client = client;
    this.#namespace = namespace;
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      const startMs = performance.now();
      try {
        const { items } = await this.#client.call(DiscoveryService.method.catalogQuery, { namespace: this.#namespace, names: ["web"] });
        if (items.length !== 1) this.failures.push(`${items.length} entries`);
      } catch (error) {
        this.failures.push(String(error));
      }
      this.count += 1;
      this.slowestMs = Math.max(this.slowestMs, performance.now() - startMs);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#done;
    this.#client.close();
  }
}

/** It may follow what is configured and nothing else. */
const FETCHING = { token_file: tokenFile, max_watches: 1, ttl_zone: "1s", ttl_region: "1s", ttl_global: "1s" };

const portOf = (address = "") => address.slice(address.lastIndexOf(":") + 1);

/** Stops a node, and starts it again on its ports. */
async function restarted(node: NodeProcess, flags: readonly string[]): Promise<NodeProcess> {
  const ports = ["grpc", "fabric"].flatMap((listener) => [`--${listener}-port`, portOf(node.listeners[listener])]);
  await node.stop();
  return startNodeProcess([...flags, ...ports]);
}

test("no lookup fails while all nodes restart one after the other, at a resolver or at the nodes, followed or fetched; when the resolver dies, programs go to a node", async () => {
  const flags = { a: settings("a"), b: settings("b") };
  let a = await startNodeProcess(flags.a);
  let b = await startNodeProcess([...flags.b, "--join", a.listeners["fabric"] ?? ""]);
  const writer = connected(b.grpc);
  const entries = ["svc.market", "svc.far"].map((namespace) => ({
    key: { kind: 1, namespace, name: "web", instanceId: "1" },
    scope: 2,
    targets: [{ host: "192.0.2.1", port: 80 }],
  }));
  await writer.call(DiscoveryService.method.register, { entries, staticLease: true });
  writer.close();
  const mode = ["--mode", "resolver", "--upstream", `${a.grpc},${b.grpc}`, "--namespaces", "svc.market"];
  const resolver = await startNodeProcess([...mode, ...settings("edge", { resolver: FETCHING })]);
  // What is fetched is kept for a second, so that names are fetched at all times of the restarts.
  const all = [
    new Asking(connected(resolver.grpc)),
    new Asking(connected(resolver.grpc), "svc.far"),
    new Asking(connected(a.grpc, b.grpc)),
  ];
  const isWell = async () => {
    const client = connected(resolver.grpc);
    const { items, stale } = await client.call(DiscoveryService.method.catalogQuery, { namespace: "svc.market" });
    client.close();
    return items.length === 1 && !stale;
  };
  a = await restarted(a, [...flags.a, "--join", b.listeners["fabric"] ?? ""]);
  await until("the resolver is well again", isWell);
  b = await restarted(b, [...flags.b, "--join", a.listeners["fabric"] ?? ""]);
  await until("the resolver is well again", isWell);
  for (const asking of all) {
    await asking.stop();
    expect([asking.failures, asking.count > 100]).toEqual([[], true]);
  }

  const roaming = new Asking(connected(resolver.grpc, b.grpc));
  await until("it asks", () => roaming.count > 10);
  resolver.command.kill("SIGKILL");
  await resolver.command.finished();
  const { count } = roaming;
  await until("it goes on at the node", () => roaming.count > count + 50);
  await roaming.stop();
  expect(roaming.failures).toEqual([]);
  for (const { slowestMs } of [...all, roaming]) expect(slowestMs).toBeLessThan(TIMEOUT_MS);
  await a[Symbol.asyncDispose]();
  await b[Symbol.asyncDispose]();
});
