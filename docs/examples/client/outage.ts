/**
 * A program whose servers are killed under traffic. It starts three nodes and a resolver, looks a service up continuously, kills every
 * server with SIGKILL, and starts them again. Run it with `node outage.ts` in a directory where the package of a release is installed (see
 * docs/guides/client.md). It takes about ten seconds and ends by itself, with exit code 0 if no lookup failed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connect, type FollowEvent, follow } from "waymark";

const waymark = join(dirname(fileURLToPath(import.meta.resolve("waymark/package.json"))), "bin", "waymark");
const home = mkdtempSync(join(tmpdir(), "waymark-outage-"));
/** The servers run on the Node.js version of this program. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env["PATH"] ?? ""}` };
const say = (line: string) => process.stdout.write(`${line}\n`);
/** Time limit of each step, for busy machines. */
const MAX_WAIT_MS = 60_000;

/** A node or a resolver in a child process. It keeps its data and its ports when it is started again. */
class Server {
  grpc = "";
  fabric = "";
  #child: ChildProcess | undefined;
  readonly #flags: readonly string[];
  readonly #host: string;

  constructor(id: string, number: number, flags: readonly string[]) {
    // Separate addresses, where the system has them, so that no other program uses the ports while the servers are down.
    this.#host = process.platform === "linux" ? `127.17.0.${number}` : "127.0.0.1";
    this.#flags = ["serve", "--node-id", id, "--data-dir", join(home, id), "--host", this.#host, "-o", "json", "--log-level", "error", ...flags];
  }

  /** Resolves when the server listens and its ports are known. */
  async start(...flags: readonly string[]): Promise<void> {
    const portOf = (address: string) => address.split(":").at(-1) || "0";
    const ports = ["--grpc-port", portOf(this.grpc), "--fabric-port", portOf(this.fabric), "--http-port", "0", "--dns-port", "0"];
    const child = spawn(waymark, [...this.#flags, ...flags, ...ports], { env, stdio: ["ignore", "pipe", "inherit"] });
    this.#child = child;
    for await (const line of createInterface({ input: child.stdout })) {
      const { listeners } = JSON.parse(line) as { readonly listeners: { readonly grpc: string; readonly fabric?: string } };
      this.grpc = listeners.grpc;
      this.fabric = listeners.fabric ?? "";
      return;
    }
    throw new Error(`${this.#flags.join(" ")} ended before it was ready`);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }
}

/**
 * One secret for all: nodes authenticate to each other with it, and the resolver and the client send it as their token. In production, use a
 * separate secret for each.
 */
const token = randomUUID();
const tokenFile = join(home, "token");
writeFileSync(tokenFile, token, { mode: 0o600 });

/** Writes a settings file, and returns its path. */
function settings(name: string, more: object): string {
  const file = join(home, name);
  const credentials = [{ tenant: "example", token_file: tokenFile, roles: ["mesh.admin", "mesh.resolve"] }];
  writeFileSync(file, JSON.stringify({ tenants: { mode: true, credentials }, ...more }));
  return file;
}

const ofNodes = ["--config", settings("node.json", { fabric: { cluster_token_file: tokenFile } })];
const ofResolvers = ["--mode", "resolver", "--namespaces", "example", "--config", settings("edge.json", { resolver: { token_file: tokenFile } })];
const nodes = [1, 2, 3].map((number) => new Server(`node-${number}`, number, ofNodes));
const [first = new Server("none", 0, [])] = nodes;
let resolver: Server | undefined;

/** Waits until the condition is true. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = performance.now() + MAX_WAIT_MS;
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`timed out waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function run(): Promise<number> {
  await first.start();
  await Promise.all(nodes.slice(1).map((node) => node.start("--join", first.fabric)));
  const addresses = nodes.map(({ grpc }) => grpc);
  // A resolver checks its callers against the policy, so it waits until there is one.
  const operator = connect({ servers: addresses, token });
  await operator.policy.applyPolicy({ policy: { version: "1", defaultAllow: true }, reason: "example" });
  operator.close();
  const edge = new Server("edge", 4, [...ofResolvers, "--upstream", addresses.join(",")]);
  resolver = edge;
  await edge.start();
  say("three nodes and a resolver are running");

  const client = connect({ servers: [edge.grpc, ...addresses], token });
  const instances = Array.from({ length: 5 }, (_, i) => ({
    key: { namespace: "example", name: "web", instanceId: `web-${i}` },
    targets: [{ host: "127.0.0.1", port: 8080 + i }],
  }));
  const registration = await client.register(instances);
  const request = { namespace: "example", bookmarkInterval: { seconds: 1n } };
  const map = await client.watch(request);
  await until("the map has all instances", () => map.size === instances.length);
  say(`${map.size} instances are registered, and the map shows them`);

  // The same changes as single events, to count the snapshots.
  const stop = new AbortController();
  let snapshots = 0;
  const following = (async () => {
    for await (const event of follow(client, request, { signal: stop.signal })) if (isSnapshot(event)) snapshots += 1;
  })();
  await until("the first snapshot is complete", () => snapshots === 1);

  // Traffic: every 2 ms, a lookup in the map, and a lookup in the client's cache, which sends a request at most every 5 s.
  const counts = { found: 0, failed: 0 };
  const look = (isFound: boolean) => (isFound ? (counts.found += 1) : (counts.failed += 1));
  const traffic = setInterval(() => {
    look(map.resolve("example", "web")?.target !== undefined);
    client.resolve("example", "web").then(
      (choice) => look(choice?.target !== undefined),
      () => look(false),
    );
  }, 2);
  const report = (what: string) => say(`${what}: ${counts.found} lookups so far, ${counts.failed} failed`);
  const more = (lookups: number) => {
    const from = counts.found;
    return () => counts.found >= from + lookups;
  };
  await until("lookups are answered", more(500));
  report("before");

  await Promise.all(nodes.map((node) => node.kill()));
  await until("lookups continue without nodes", more(500));
  report("all nodes killed");
  await edge.kill();
  await until("the map is stale", () => map.freshness.isStale);
  await until("lookups continue without any server", more(500));
  report(`the resolver also killed, the map is ${map.freshness.isStale ? "stale" : "current"} and has ${map.size}`);

  await Promise.all(nodes.map((node) => node.start("--join", first.fabric)));
  await edge.start();
  await until("the map is current again", () => !map.freshness.isStale);
  const late = await client.register([{ key: { namespace: "example", name: "web", instanceId: "late" }, targets: [{ host: "127.0.0.1", port: 8090 }] }]);
  await until("the map shows the new instance", () => map.size === instances.length + 1);
  report(`all servers started again, the map is current and has ${map.size}`);
  say(`snapshots since the first one: ${snapshots - 1}`);

  clearInterval(traffic);
  stop.abort();
  await Promise.all([map.close(), late.close(), registration.close(), following]);
  client.close();
  return counts.failed === 0 && snapshots === 1 ? 0 : 1;
}

function isSnapshot(event: FollowEvent): boolean {
  return event.kind === "synced" && event.isSnapshot;
}

async function cleanUp(): Promise<void> {
  await Promise.all([...nodes, ...(resolver === undefined ? [] : [resolver])].map((server) => server.kill()));
  rmSync(home, { recursive: true, force: true });
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void cleanUp().finally(() => process.exit(1)));
try {
  process.exitCode = await run();
} finally {
  await cleanUp();
}
