/** Two regions of our own nodes, as far as `regions` needs them: a border between them that is counted, and a second node of the exporting cluster. */
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { EntryKind, EntrySchema, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterRequestSchema, UnregisterRequestSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { FabricAuthority } from "../test/fakes/fabric-transport.ts";
import { listenerOf, type Node, scratchDir, startNode } from "./_processes.ts";
import { type Relay, startRelay } from "./_relay.ts";
import { NAMESPACE, shapeOf } from "./_work.ts";

interface SummaryItem {
  readonly serviceId: string;
  readonly endpointCount: number;
}

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

type Region = "east" | "west";

/** The authority of a region: its nodes prove themselves by certificates, inside the region and at its borders. */
function authorityOf(region: Region) {
  const authority = new FabricAuthority();
  const home = scratchDir(`authority-${region}`);
  const file = (name: string, content: Uint8Array) => {
    const path = join(home, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  };
  const caFile = file("ca.pem", authority.ca);
  const filesOf = (nodeId: string) => {
    const { cert, key } = authority.issue(nodeId, { clusterId: `${region}-1` });
    return { cert_file: file(`${nodeId}.pem`, cert), key_file: file(`${nodeId}.key`, key), ca_file: caFile };
  };
  return { caFile, filesOf };
}

/** With the settings that a node has by itself, but for who is who, and with TLS on all links, as peered datacenters of Consul must have it. */
export async function startRegions(): Promise<TwoRegions> {
  const keys = { east: keyOf("east-1", "east"), west: keyOf("west-1", "west") };
  const rows = [keys.east.row, keys.west.row];
  const authorities = { east: authorityOf("east"), west: authorityOf("west") };
  const start = (
    region: Region,
    nodeId: string,
    { fabric = {}, summary = {} }: { readonly fabric?: object; readonly summary?: object },
  ) => {
    const file = join(scratchDir(nodeId), "node.json");
    const config = { fabric: { ...authorities[region].filesOf(nodeId), ...fabric }, summary: { keys: rows, ...summary } };
    writeFileSync(file, JSON.stringify(config));
    const named = ["--node-id", nodeId, "--cluster-id", `${region}-1`, "--region", region, "--config", file];
    return startNode({ isFree: true, isPlain: true, args: named });
  };
  const border = (region: Region, addresses: readonly string[]) => ({
    borders: [{ cluster_id: `${region}-1`, region, addresses, trust: { ca_file: authorities[region].caFile } }],
  });
  const signing = (region: Region) => ({ signing_key_file: keys[region].signingKeyFile });
  const exporting = await start("east", "east-a", { fabric: border("west", []), summary: signing("east") });
  const fabric = listenerOf(exporting, "fabric");
  const relay = await startRelay(fabric);
  const beside = await start("east", "east-b", { fabric: { seeds: [`${fabric.host}:${fabric.port}`] } });
  const to = `${relay.at.host}:${relay.at.port}`;
  const importing = await start("west", "west-a", { fabric: border("east", [to]), summary: signing("west") });
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
export function recordBytesOf(node: Node): Promise<number> {
  return countedBy(node, "mesh_link_bytes_total", ['direction="sent"', 'kind="records"']);
}

/** Summaries that the node has made for its cluster. */
export function exportsOf(node: Node): Promise<number> {
  return countedBy(node, "discovery_summary_exports_total", ['outcome="exported"']);
}

async function countedBy(node: Node, metric: string, labels: readonly string[]): Promise<number> {
  const { host, port } = listenerOf(node, "http");
  const text = await (await fetch(`http://${host}:${port}/metrics`)).text();
  const all = [...text.matchAll(new RegExp(`^${metric}\\{([^}]*)\\} (\\d+)$`, "gm"))];
  return all.reduce((sum, [, had = "", count]) => (labels.every((label) => had.includes(label)) ? sum + Number(count) : sum), 0);
}

/** Of each service of the other region that the node shows: how many endpoints its summary says. */
export async function summariesAt(node: Node): Promise<ReadonlyMap<string, number>> {
  const { host, port } = listenerOf(node, "http");
  const counts = new Map<string, number>();
  let token = "";
  do {
    const answer = await fetch(`http://${host}:${port}/discovery/summary?region=east&limit=1000&page_token=${encodeURIComponent(token)}`);
    const page = (await answer.json()) as { readonly items: readonly SummaryItem[]; readonly nextPageToken: string };
    for (const { serviceId, endpointCount } of page.items) counts.set(serviceId, endpointCount);
    token = page.nextPageToken;
  } while (token !== "");
  return counts;
}
