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
import { countField, field, fieldsOf } from "./_frames.ts";
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
  etcdRange: "/etcdserverpb.KV/Range",
  etcdPut: "/etcdserverpb.KV/Put",
  etcdTxn: "/etcdserverpb.KV/Txn",
  etcdWatch: "/etcdserverpb.Watch/Watch",
  etcdGrant: "/etcdserverpb.Lease/LeaseGrant",
  etcdKeepAlive: "/etcdserverpb.Lease/LeaseKeepAlive",
} as const;

/** One service in POOL_SERVICES has a tag of its own: what a filter by tag finds in a catalog of any size. */
const POOL_SERVICES = 100;

export interface EntryOptions {
  /** Written into the metadata: another number is a change. */
  readonly version?: number;
  readonly isStatic?: boolean;
  readonly leaseId?: string;
}

/** The service and instance of entry `k`. */
export function keyOf(k: number): { readonly name: string; readonly instanceId: string } {
  return { name: `service-${Math.floor(k / INSTANCES)}`, instanceId: `i-${k % INSTANCES}` };
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
export function registerNumbers(numbers: readonly number[], { version, isStatic = true, leaseId = "" }: EntryOptions = {}): Uint8Array {
  const entries = numbers.map((k) => {
    const service = Math.floor(k / INSTANCES);
    return create(EntrySchema, {
      key: { kind: EntryKind.SERVICE, namespace: NAMESPACE, ...keyOf(k) },
      scope: Scope.REGION,
      targets: [{ host: `10.${(k >> 16) & 255}.${(k >> 8) & 255}.${k & 255}`, port: 8080, protocol: "grpc", weight: 10 }],
      tags: ["v1", `pool-${Math.floor(service / POOL_SERVICES)}`],
      ...(version !== undefined && { metadata: { v: String(version) } }),
    });
  });
  return toBinary(RegisterRequestSchema, create(RegisterRequestSchema, { entries, staticLease: isStatic, leaseId }));
}

/** Exactly one service, scope filter on. */
export function exactQuery(service: number): Uint8Array {
  return toBinary(
    CatalogQueryRequestSchema,
    create(CatalogQueryRequestSchema, { namespace: NAMESPACE, names: [`service-${service}`], scope: Scope.REGION }),
  );
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

/** Everything in the namespace, or one service of it. */
export function watchBytes(service?: number): Uint8Array {
  const names = service === undefined ? [] : [`service-${service}`];
  return toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, { namespace: NAMESPACE, names }));
}

/** A key whose service comes first and in order, as a user of etcd would choose it. */
function etcdKey(k: number): string {
  return `/${NAMESPACE}/service-${Math.floor(k / INSTANCES)}/i-${k % INSTANCES}`;
}

/** The key after every key that starts with `prefix`. */
function afterPrefix(prefix: string): string {
  return `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
}

/** A serializable range over what starts with `prefix`. */
export function etcdRange(prefix: string, limit = 0): Uint8Array {
  const parts = [field(1, prefix), field(2, afterPrefix(prefix)), field(7, 1)];
  return Buffer.concat(limit === 0 ? parts : [...parts, field(3, limit)]);
}

export function etcdPut(k: number, value: Uint8Array, leaseId = 0): Uint8Array {
  const parts = [field(1, etcdKey(k)), field(2, value)];
  return Buffer.concat(leaseId === 0 ? parts : [...parts, field(3, leaseId)]);
}

/** A transaction without conditions that puts keys `from` up to `to`; etcd takes 128 by default. */
export function etcdTxn(from: number, to: number, value: Uint8Array): Uint8Array {
  return Buffer.concat(Array.from({ length: to - from }, (_, i) => field(2, field(2, etcdPut(from + i, value)))));
}

/** Everything in the namespace, or one service of it. */
export function etcdWatch(service?: number): Uint8Array {
  const prefix = service === undefined ? `/${NAMESPACE}/` : `/${NAMESPACE}/service-${service}/`;
  return field(1, Buffer.concat([field(1, prefix), field(2, afterPrefix(prefix))]));
}

/** Runs `count` requests, `inFlight` at a time over `connections` connections; returns seconds by the clock. */
export async function drive(
  server: Running,
  path: string,
  options: {
    readonly count: number;
    readonly inFlight: number;
    readonly connections?: number;
    readonly message: (i: number) => Uint8Array;
    readonly onAnswer?: (answer: Buffer, tookMs: number) => void;
    /** Shown with every call. */
    readonly token?: string | undefined;
  },
): Promise<number> {
  const { count, inFlight, connections = 1, message, onAnswer, token = "" } = options;
  const wires = await Promise.all(Array.from({ length: connections }, () => Wire.open(server.grpc, { token })));
  const startMs = performance.now();
  let next = 0;
  const worker = async (wire: Wire) => {
    while (next < count) {
      const body = message(next++);
      const sentMs = performance.now();
      const answer = await wire.unary(path, body);
      onAnswer?.(answer, performance.now() - sentMs);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, (_, i) => worker(wires[i % wires.length] ?? fail())));
  for (const wire of wires) wire.close();
  return (performance.now() - startMs) / 1000;
}

/** Entry bytes as both peers serve them: etcd's value is shorter by what its own key and numbers take in an answer. */
export interface Sizes {
  readonly entryBytes: number;
  readonly etcdValue: Uint8Array;
}

const NODE_BATCH = 1000;

/** Registers `count` entries with our node; `from` continues an earlier load. `token`: where the node has credentials. */
export async function loadNode(node: Running, count: number, from = 0, token?: string): Promise<void> {
  await drive(node, PATH.register, {
    token,
    count: Math.ceil((count - from) / NODE_BATCH),
    inFlight: 4,
    message: (i) => registerBytes(from + i * NODE_BATCH, Math.min(count, from + (i + 1) * NODE_BATCH)),
  });
}

/** What one entry is on the wire, measured at the node. */
export async function sizesOf(node: Running, etcd: Running | undefined): Promise<Sizes> {
  const entryBytes = fieldsOf(await ask(node, PATH.query, exactQuery(0)), 1)[0]?.length ?? fail();
  if (etcd === undefined) return { entryBytes, etcdValue: Buffer.alloc(0) };
  let value = Buffer.alloc(entryBytes, "x");
  await ask(etcd, PATH.etcdPut, etcdPut(0, value));
  const kvBytes = fieldsOf(await ask(etcd, PATH.etcdRange, etcdRange(etcdKey(0))), 2)[0]?.length ?? fail();
  value = value.subarray(0, Math.max(1, entryBytes - (kvBytes - entryBytes)));
  return { entryBytes, etcdValue: value };
}

/**
 * Puts as many keys of the same size into etcd, one at a time as its users do: put by transactions of 100, the same keys
 * cost it twice as much to read.
 */
export async function loadEtcd(etcd: Running, count: number, { etcdValue }: Sizes): Promise<void> {
  await drive(etcd, PATH.etcdPut, { count, inFlight: 64, message: (i) => etcdPut(i, etcdValue) });
}

/** One call over a connection of its own. */
export async function ask(server: Running, path: string, message: Uint8Array): Promise<Buffer> {
  const wire = await Wire.open(server.grpc);
  const answer = await wire.unary(path, message);
  wire.close();
  return answer;
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
