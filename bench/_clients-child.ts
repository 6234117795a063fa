/**
 * Clients as programs have them, many in one process: `_clients-child.ts SERVER,SERVER,… COUNT`, each with a live map of `NAMESPACE` from which it
 * chooses endpoints all the time. Its parent says `begin`, and at `read` it says what came of the lookups since then, and when each client heard of a
 * server again. It says `ready` when all maps are whole.
 */
import { Snapshot } from "../gen/waymark/catalog/v1/watch_pb.js";
import type { CatalogWatchResponse } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { type Client, connect, type LiveMap } from "../src/client/index.ts";
import { percentile } from "./_results.ts";
import { keyOf, NAMESPACE } from "./_work.ts";

/** What the parent is told. Times are of the system's clock, in ms. */
export interface ClientsTold {
  readonly lookups: number;
  readonly failed: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Of each client that heard of a server since `begin`: when it first did, */
  readonly heardMs: readonly number[];
  /** and when it had made the call by which it heard. */
  readonly cameMs: readonly number[];
  /** Snapshots that came since `begin`. */
  readonly snapshots: number;
  /** The lowest version of the first entry that a map shows. */
  readonly lowestVersion: number;
}

const [servers = "", count = "0"] = process.argv.slice(2);
const COUNT = Number(count);
const SERVICES = 10;
/** Each turn so many maps are asked, one lookup each. */
const TURN_MS = 10;
const LOOKUPS_A_TURN = 25;

let lookupUs: number[] = [];
let failed = 0;
let snapshots = 0;
let heard = new Map<number, { readonly cameMs: number; readonly heardMs: number }>();
let asked = 0;

/** Tells of each message that the client is sent, before the client has it. */
function listen(client: Client, onMessage: (message: CatalogWatchResponse, cameMs: number) => void): void {
  const streamAt = client.streamAt.bind(client);
  const listening: Client["streamAt"] = async function* (server, method, request, options) {
    const cameMs = Date.now();
    for await (const message of streamAt(server, method, request, options)) {
      onMessage(message as unknown as CatalogWatchResponse, cameMs);
      yield message;
    }
  };
  Object.assign(client, { streamAt: listening });
}

async function openMap(i: number): Promise<LiveMap> {
  const list = servers.split(",");
  // Each has another one of them first.
  const client = connect({ servers: [...list.slice(i % list.length), ...list.slice(0, i % list.length)], findServers: false });
  listen(client, ({ snapshot }, cameMs) => {
    if (!heard.has(i)) heard.set(i, { cameMs, heardMs: Date.now() });
    if (snapshot === Snapshot.BEGIN) snapshots += 1;
  });
  return client.watch({ namespace: NAMESPACE }, { waitsForServer: true });
}

function lookUp(maps: readonly LiveMap[]): void {
  for (let n = 0; n < LOOKUPS_A_TURN; n++, asked++) {
    const map = maps[asked % maps.length];
    const name = `service-${asked % SERVICES}`;
    const startMs = performance.now();
    const choice = map?.resolve(NAMESPACE, name);
    lookupUs.push((performance.now() - startMs) * 1000);
    if (choice === undefined) failed += 1;
  }
}

function versionIn(map: LiveMap): number {
  const { name, instanceId } = keyOf(0);
  const entry = map.named(NAMESPACE, name).find(({ key }) => key?.instanceId === instanceId);
  return Number(entry?.metadata["v"] ?? -1);
}

const maps = await Promise.all(Array.from({ length: COUNT }, (_, i) => openMap(i)));
// Else nobody would seem to come back.
if (heard.size < COUNT) throw new Error(`nothing was heard of the watches of ${COUNT - heard.size} clients`);
setInterval(() => lookUp(maps), TURN_MS);
process.on("message", (order: "begin" | "read") => {
  if (order === "read") {
    const told: ClientsTold = {
      lookups: lookupUs.length,
      failed,
      p50Us: percentile(lookupUs, 0.5),
      p99Us: percentile(lookupUs, 0.99),
      heardMs: Array.from(heard.values(), ({ heardMs }) => heardMs),
      cameMs: Array.from(heard.values(), ({ cameMs }) => cameMs),
      snapshots,
      lowestVersion: Math.min(...maps.map(versionIn)),
    };
    process.send?.(told);
    return;
  }
  [lookupUs, failed, snapshots] = [[], 0, 0];
  heard = new Map();
  process.send?.("begun");
});
process.on("disconnect", () => process.exit());
process.send?.("ready");
