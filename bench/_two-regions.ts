/** Two regions of our own nodes, as far as `regions` needs them: a border between them that is counted, and a second node of the exporting cluster. */
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { EntryKind, EntrySchema, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterRequestSchema, UnregisterRequestSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { listenerOf, type Node, scratchDir, startNode } from "./_processes.ts";
import { type Relay, startRelay } from "./_relay.ts";
import { NAMESPACE, shapeOf } from "./_work.ts";

const TOKEN = "a-token-of-this-benchmark-alone";

export interface TwoRegions {
  /** Where endpoints join and leave, with the key of its cluster and a border. */
  readonly exporting: Node;
  /** Another node of its cluster, which gets the records. */
  readonly beside: Node;
  readonly importing: Node;
  /** Between the regions. */
  readonly relay: Relay;
  stop(): Promise<void>;
}

/** The key of a cluster: the file with the secret, and the row for others. */
function keyOf(clusterId: string, region: string) {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const signingKeyFile = join(scratchDir("key"), `${clusterId}.key`);
  writeFileSync(signingKeyFile, privateKey.export({ type: "pkcs8", format: "pem" }).toString(), { mode: 0o600 });
  const publicText = publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("base64");
  return { signingKeyFile, row: { cluster_id: clusterId, region, public_key: publicText } };
}

/** With the settings that a node has by itself, but for who is who. */
export async function startRegions(): Promise<TwoRegions> {
  const keys = { east: keyOf("east-1", "east"), west: keyOf("west-1", "west") };
  const rows = [keys.east.row, keys.west.row];
  const tokenFile = join(scratchDir("token"), "border.token");
  writeFileSync(tokenFile, `${TOKEN}\n`, { mode: 0o600 });
  const start = (region: "east" | "west", nodeId: string, config: object, join_: readonly string[] = []) => {
    const file = join(scratchDir(nodeId), "node.json");
    writeFileSync(file, JSON.stringify(config));
    const named = ["--node-id", nodeId, "--cluster-id", `${region}-1`, "--region", region, "--config", file];
    return startNode({ isFree: true, isPlain: true, args: [...named, ...join_] });
  };
  const border = (region: string, addresses: readonly string[]) => ({
    borders: [{ cluster_id: `${region}-1`, region, addresses, trust: { token_file: tokenFile } }],
  });
  const summary = (region: "east" | "west") => ({ signing_key_file: keys[region].signingKeyFile, keys: rows });
  const exporting = await start("east", "east-a", { summary: summary("east"), fabric: border("west", []) });
  const fabric = listenerOf(exporting, "fabric");
  const relay = await startRelay(fabric);
  const joins = ["--join", `${fabric.host}:${fabric.port}`];
  const beside = await start("east", "east-b", { summary: { keys: rows } }, joins);
  const to = `${relay.at.host}:${relay.at.port}`;
  const importing = await start("west", "west-a", { summary: summary("west"), fabric: border("east", [to]) });
  return {
    exporting,
    beside,
    importing,
    relay,
    stop: async () => {
      for (const node of [importing, beside, exporting]) await node.stop("SIGKILL");
      relay.close();
    },
  };
}

/** The service of endpoint `k`, of so many. */
export function serviceName(k: number, services: number): string {
  return `service-${k % services}`;
}

/** A RegisterRequest of these endpoints, which other regions may hear of. */
export function joiningBytes(numbers: readonly number[], services: number): Uint8Array {
  const entries = numbers.map((k) => {
    const { host, port, tags } = shapeOf(k);
    return create(EntrySchema, {
      key: { kind: EntryKind.SERVICE, namespace: NAMESPACE, name: serviceName(k, services), instanceId: `i-${k}` },
      scope: Scope.GLOBAL,
      targets: [{ host, port, protocol: "grpc", weight: 10 }],
      tags,
    });
  });
  return toBinary(RegisterRequestSchema, create(RegisterRequestSchema, { entries, staticLease: true }));
}

export function leavingBytes(k: number, services: number): Uint8Array {
  const key = { kind: EntryKind.SERVICE, namespace: NAMESPACE, name: serviceName(k, services), instanceId: `i-${k}` };
  return toBinary(UnregisterRequestSchema, create(UnregisterRequestSchema, { keys: [key] }));
}

/** Bytes of record frames that the node has sent to others of its region, as its own metric says: without what HTTP/2 and TCP add. */
export async function recordBytesOf(node: Node): Promise<number> {
  const { host, port } = listenerOf(node, "http");
  const text = await (await fetch(`http://${host}:${port}/metrics`)).text();
  const sent = [...text.matchAll(/^mesh_link_bytes_total\{([^}]*)\} (\d+)$/gm)].filter(
    ([, labels = ""]) => labels.includes('direction="sent"') && labels.includes('kind="records"'),
  );
  return sent.reduce((sum, [, , bytes]) => sum + Number(bytes), 0);
}

/** How many summaries of the other region the node shows, and how many endpoints these say in all. */
export async function summariesAt(node: Node): Promise<{ readonly count: number; readonly endpoints: number }> {
  const { host, port } = listenerOf(node, "http");
  let [count, endpoints, token] = [0, 0, ""];
  do {
    const answer = await fetch(`http://${host}:${port}/discovery/summary?region=east&limit=1000&page_token=${encodeURIComponent(token)}`);
    const page = (await answer.json()) as { readonly items: readonly { readonly endpointCount: number }[]; readonly nextPageToken: string };
    count += page.items.length;
    endpoints += page.items.reduce((sum, item) => sum + item.endpointCount, 0);
    token = page.nextPageToken;
  } while (token !== "");
  return { count, endpoints };
}
