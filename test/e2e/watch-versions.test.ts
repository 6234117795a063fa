/**
 * Watches of a version range, through real nodes: what leaves the range is removed, also for who goes on elsewhere.
 *
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { outcomeOf } from "../fakes/limited-node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-versions-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const TOKEN = join(HOME, "cluster.token");
writeFileSync(TOKEN, "one-token-for-all-nodes\n", { mode: 0o600 });
const FABRIC = join(HOME, "node.json");
const fabric = { interval: "400ms", ping_timeout: "250ms", join_timeout: "20s", cluster_token_file: TOKEN };
writeFileSync(FABRIC, JSON.stringify({ fabric, observability: { log_level: "warn" } }));

async function start(nodeId: string, seed?: NodeProcess): Promise<NodeProcess> {
  const seeds = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""];
  const flags = ["--node-id", nodeId, "--config", FABRIC, "--data-dir", join(HOME, nodeId), ...seeds];
  return startNodeProcess(flags);
}

const grpcOf = ({ grpc }: NodeProcess) => createGrpcTransport({ baseUrl: `http://${grpc}` });
const clientOf = (transport: Transport) => createClient(DiscoveryService, transport);
type Client = ReturnType<typeof clientOf>;

async function put(client: Client, versions: Readonly<Record<string, string>>): Promise<void> {
  const entries = Object.entries(versions).map(([instanceId, version]) => ({
    key: { kind: EntryKind.FUNCTION, namespace: "fn", name: "price", instanceId },
    detail: { case: "function" as const, value: { version } },
  }));
  await client.register({ entries, staticLease: true });
}

/** A reader that folds what it is told. */
class Fold implements AsyncDisposable {
  readonly held = new Set<string>();
  removals: string[] = [];
  beginCount = 0;
  cursor = "";
  #fault: unknown;
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  constructor(client: Client, versionRange: string, from?: Fold) {
    for (const id of from?.held ?? []) this.held.add(id);
    const request = { namespace: "fn", versionRange, cursor: from?.cursor ?? "", bookmarkInterval: { seconds: 1n } };
    this.#done = this.#read(client.catalogWatch(request, { signal: this.#abort.signal })).catch((error: unknown) => {
      this.#fault = error;
    });
  }

  /** Waits until it holds these and has a portable cursor for them. */
  async holds(...ids: readonly string[]): Promise<void> {
    const seen = () => [...this.held].toSorted().join();
    this.cursor = "";
    await until(`holds ${ids.join()}`, () => {
      if (this.#fault !== undefined) throw new Error(`ended holding ${seen()}`, { cause: this.#fault });
      return this.cursor !== "" && seen() === ids.join();
    });
  }

  async #read(messages: ReturnType<Client["catalogWatch"]>): Promise<void> {
    for await (const { deltas, snapshot, portableCursor } of messages) {
      if (snapshot === Snapshot.BEGIN) {
        this.beginCount += 1;
        this.held.clear();
      }
      for (const { payload } of deltas) {
        if (payload.case === "entry") this.held.add(payload.value.key?.instanceId ?? "");
        if (payload.case !== "removed") continue;
        this.held.delete(payload.value.instanceId);
        this.removals.push(payload.value.instanceId);
      }
      if (portableCursor !== "") this.cursor = portableCursor;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }
}

test("a watch of a range is told what enters and leaves it, over gRPC and HTTP; a cursor of another range makes a snapshot", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const client = clientOf(grpcOf(node));
  const http = clientOf(
    createConnectTransport({ baseUrl: `http://${node.listeners["http"]}`, httpVersion: "1.1", useBinaryFormat: false }),
  );
  await put(client, { a: "1.2.0", b: "2.0.0", c: "1.9.0", d: "" });
  await client.register({
    entries: [{ key: { kind: EntryKind.SERVICE, namespace: "fn", name: "web", instanceId: "s" } }],
    staticLease: true,
  });
  await using first = new Fold(client, "^1.2.0");
  await using overHttp = new Fold(http, "^1.2.0");
  for (const fold of [first, overHttp]) await fold.holds("a", "c");
  await put(client, { a: "2.0.0", b: "1.5.0", d: "3.0.0" });
  for (const fold of [first, overHttp]) await fold.holds("b", "c");
  expect([first.removals, overHttp.removals, first.beginCount]).toEqual([["a"], ["a"], 1]);

  await using same = new Fold(client, "^1.2.0", first);
  await put(client, { c: "2.1.0" });
  await same.holds("b");
  expect(same.beginCount).toBe(0);
  await using other = new Fold(client, "^2", first);
  await other.holds("a", "c");
  expect(other.beginCount).toBe(1);

  for (const [asked, says] of [
    [{ versionRange: "latest!" }, 'version_range: "latest!" is not a range'],
    [{ versionRange: "^1", kinds: [EntryKind.TOPIC] }, "version_range: only functions have versions"],
    [{ versionRange: "1".repeat(129) }, "version_range: must have at most 128 characters, got 129"],
    [{ versionRange: "^1", namespace: "fn", withDigest: true }, "with_digest: "],
  ] as const satisfies readonly (readonly [Parameters<Client["catalogWatch"]>[0], string])[]) {
    const refused = await outcomeOf(client.catalogWatch(asked)[Symbol.asyncIterator]().next());
    expect(refused).toMatchObject({ reason: "invalid_argument" });
    expect(refused.message).toContain(says);
  }

  const { exit, stdout } = await node.run(["discovery", "watch", "--version-range", "^1.2.0", "--until-synced", "-o", "json"]);
  const lines = stdout
    .trim()
    .split("\n")
    .map((line): unknown => JSON.parse(line));
  expect(exit).toBe(0);
  expect(lines).toMatchObject([
    { event: "create", entry: { key: { instanceId: "b" } } },
    { event: "synced", count: 1 },
  ]);
});

test("who goes on at another node is told what left the range meanwhile, and at the first after a restart", {
  tags: ["night"],
}, async () => {
  let a = await start("va");
  const b = await start("vb", a);
  try {
    const clientOfA = clientOf(grpcOf(a));
    await put(clientOfA, { a: "1.0.0", b: "2.0.0", c: "1.1.0" });
    await using atA = new Fold(clientOfA, "^1");
    await atA.holds("a", "c");
    await atA[Symbol.asyncDispose]();
    await put(clientOfA, { a: "2.0.0", b: "1.3.0" });
    await using atB = new Fold(clientOf(grpcOf(b)), "^1", atA);
    await atB.holds("b", "c");
    expect([atB.beginCount, atB.removals]).toEqual([0, ["a"]]);
    await atB[Symbol.asyncDispose]();
    await put(clientOfA, { c: "2.0.0" });
    await a.stop("SIGKILL");
    a = await start("va", b);
    await using again = new Fold(clientOf(grpcOf(a)), "^1", atB);
    await again.holds("b");
    expect([again.beginCount, again.removals.filter((id) => id === "c")]).toEqual([0, ["c"]]);
  } finally {
    for (const node of [a, b]) await node[Symbol.asyncDispose]();
  }
});
