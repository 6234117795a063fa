/** The same work for both peers: entries of one shape, their registration, and requests as raw messages. */
import { create, toBinary } from "@bufbuild/protobuf";
import { EntryKind, EntrySchema, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogWatchRequestSchema,
  RegisterRequestSchema,
  RegisterResponseSchema,
  UnregisterRequestSchema,
} from "../gen/waymark/discovery/v1/discovery_pb.js";
import { countField, fieldsOf } from "./_frames.ts";
import type { Running } from "./_processes.ts";
import { Wire } from "./_wire.ts";

export const NAMESPACE = "svc.market";
export const INSTANCES = 10;
const SERVICE = "/waymark.discovery.v1.DiscoveryService";
export const PATH = {
  register: `${SERVICE}/Register`,
  unregister: `${SERVICE}/Unregister`,
  status: `${SERVICE}/NamespaceStatus`,
  keepAlive: `${SERVICE}/KeepAlive`,
  query: `${SERVICE}/CatalogQuery`,
  watch: `${SERVICE}/CatalogWatch`,
  info: `${SERVICE}/ServerInfo`,
} as const;

/** One service in POOL_SERVICES has a tag of its own: what a filter by tag finds in a catalog of any size. */
const POOL_SERVICES = 100;

/** Ttl of each lease at either peer: none ends while a benchmark runs. */
export const LEASE_SECONDS = 3600;

export interface EntryOptions {
  /** `NAMESPACE` when absent. */
  readonly namespace?: string;
  /** Written into the metadata: another number is a change. */
  readonly version?: number;
  /** Under a lease that never ends. True when absent, unless there is a lease. */
  readonly isStatic?: boolean;
  /** An existing lease. A new one when absent, which lasts `LEASE_SECONDS` unless it is static. */
  readonly leaseId?: string;
  /** Characters of metadata beside, where another peer's entries are longer. */
  readonly padding?: number;
}

/** The service and instance of entry `k`. */
export function keyOf(k: number): { readonly name: string; readonly instanceId: string } {
  return { name: `service-${Math.floor(k / INSTANCES)}`, instanceId: `i-${k % INSTANCES}` };
}

/** Where entry `k` is reached, and its tags. */
export function shapeOf(k: number): { readonly host: string; readonly port: number; readonly tags: string[] } {
  const service = Math.floor(k / INSTANCES);
  return {
    host: `10.${(k >> 16) & 255}.${(k >> 8) & 255}.${k & 255}`,
    port: 8080,
    tags: ["v1", `pool-${Math.floor(service / POOL_SERVICES)}`],
  };
}

/** An UnregisterRequest of these entries. */
export function unregisterBytes(numbers: readonly number[]): Uint8Array {
  const keys = numbers.map((k) => ({ kind: EntryKind.SERVICE, namespace: NAMESPACE, ...keyOf(k) }));
  return toBinary(UnregisterRequestSchema, create(UnregisterRequestSchema, { keys }));
}

/** A RegisterRequest of entries `from` up to `to`. */
export function registerBytes(from: number, to: number, options: EntryOptions = {}): Uint8Array {
  const numbers = Array.from({ length: to - from }, (_, i) => from + i);
  return registerNumbers(numbers, options);
}

/** A RegisterRequest of these entries. */
export function registerNumbers(
  numbers: readonly number[],
  { namespace = NAMESPACE, version, leaseId = "", isStatic = leaseId === "", padding = 0 }: EntryOptions = {},
): Uint8Array {
  const entries = numbers.map((k) => {
    const { host, port, tags } = shapeOf(k);
    return create(EntrySchema, {
      key: { kind: EntryKind.SERVICE, namespace, ...keyOf(k) },
      scope: Scope.REGION,
      targets: [{ host, port, protocol: "grpc", weight: 10 }],
      tags,
      metadata: { ...(version !== undefined && { v: String(version) }), ...(padding > 0 && { padding: "x".repeat(padding) }) },
    });
  });
  const ttl = isStatic || leaseId !== "" ? {} : { ttl: { seconds: BigInt(LEASE_SECONDS) } };
  return toBinary(RegisterRequestSchema, create(RegisterRequestSchema, { entries, staticLease: isStatic, leaseId, ...ttl }));
}

/** Exactly one service, scope filter on. */
export function exactQuery(service: number): Uint8Array {
  return toBinary(
    CatalogQueryRequestSchema,
    create(CatalogQueryRequestSchema, { namespace: NAMESPACE, names: [`service-${service}`], scope: Scope.REGION }),
  );
}

/** The same as JSON. */
export function exactJson(service: number): string {
  return JSON.stringify({ namespace: NAMESPACE, names: [`service-${service}`], scope: "SCOPE_REGION" });
}

/** The first page of one namespace. */
export function pageQuery(limit: number, namespace = NAMESPACE): Uint8Array {
  return toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, { namespace, scope: Scope.REGION, limit }));
}

/** The first page of a prefix. */
export function prefixQuery(limit: number): Uint8Array {
  return toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, { namespacePrefix: "svc", scope: Scope.REGION, limit }));
}

/** The first `limit` entries with one of many tags. */
export function tagQuery(pool: number, limit: number): Uint8Array {
  return toBinary(
    CatalogQueryRequestSchema,
    create(CatalogQueryRequestSchema, { namespace: NAMESPACE, tags: ["v1", `pool-${pool}`], scope: Scope.REGION, limit }),
  );
}

/** Everything in the namespace, or entries with some names. */
export function watchBytes(names: readonly string[] = []): Uint8Array {
  return toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, { namespace: NAMESPACE, names: [...names] }));
}

export interface Driven {
  readonly count: number;
  readonly inFlight: number;
  readonly connections?: number;
  /** Shown with every call. */
  readonly token?: string | undefined;
}

/** Does work 0 up to `count`, `inFlight` at a time over `connections` connections. */
export async function driveAll(
  server: Running,
  { count, inFlight, connections = 1, token = "" }: Driven,
  work: (wire: Wire, i: number) => Promise<unknown>,
): Promise<void> {
  const wires = await Promise.all(Array.from({ length: connections }, () => Wire.open(server.grpc, { token })));
  let next = 0;
  const worker = async (wire: Wire) => {
    while (next < count) await work(wire, next++);
  };
  await Promise.all(Array.from({ length: inFlight }, (_, i) => worker(wires[i % wires.length] ?? fail())));
  for (const wire of wires) wire.close();
}

/** The same where the work is one call of a method. */
export function drive(
  server: Running,
  path: string,
  { message, onAnswer, ...driven }: Driven & { readonly message: (i: number) => Uint8Array; readonly onAnswer?: (answer: Buffer) => void },
): Promise<void> {
  return driveAll(server, driven, async (wire, i) => {
    const answer = await wire.unary(path, message(i));
    onAnswer?.(answer);
  });
}

const NODE_BATCH = 1000;

export interface LoadOptions {
  /** Where the node has credentials. */
  readonly token?: string;
  readonly padding?: number;
}

/** Registers `count` entries with our node; `from` continues an earlier load. */
export async function loadNode(node: Running, count: number, from = 0, { token, padding = 0 }: LoadOptions = {}): Promise<void> {
  await drive(node, PATH.register, {
    token,
    count: Math.ceil((count - from) / NODE_BATCH),
    inFlight: 4,
    message: (i) => registerBytes(from + i * NODE_BATCH, Math.min(count, from + (i + 1) * NODE_BATCH), { padding }),
  });
}

/** Namespaces of a hundred entries each, which stand beside `NAMESPACE` where pages are read. */
export const SMALL = { namespaces: 100, entries: 100 } as const;

/** The name of one of them: as long as `NAMESPACE`. */
export function smallNamespace(i: number): string {
  return `svc.pg-${String(i).padStart(3, "0")}`;
}

/** Registers the entries of the small namespaces with our node. */
export async function loadSmall(node: Running): Promise<void> {
  const message = (i: number) => registerBytes(0, SMALL.entries, { namespace: smallNamespace(i) });
  await drive(node, PATH.register, { count: SMALL.namespaces, inFlight: 4, message });
}

/** One call over a connection of its own. */
export async function ask(server: Running, path: string, message: Uint8Array): Promise<Buffer> {
  const wire = await Wire.open(server.grpc);
  const answer = await wire.unary(path, message);
  wire.close();
  return answer;
}

/** A number below `bound` for request `i`: as good as at random, and the same for every peer and run. Knuth, TAOCP 3, 6.4. */
export function scattered(i: number, bound: number): number {
  return Math.floor(((Math.imul(i + 1, 0x9e3779b1) >>> 0) / 2 ** 32) * bound);
}

/** Items in an answer: ours are field 1, etcd's kvs field 2. */
export function itemsIn(server: Running, answer: Buffer): number {
  return countField(answer, 0, answer.length, server.name === "etcd" ? 0x12 : 0x0a);
}

/** The lease of a RegisterResponse. */
export function leaseIn(answer: Buffer): string {
  return fieldsOf(answer, RegisterResponseSchema.field.leaseId.number)[0]?.toString() ?? "";
}

export function fail(): never {
  throw new Error("the benchmark's own data is not as it should be");
}
