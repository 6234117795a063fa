/**
 * etcd as our figures stand beside it.
 *
 * Made equal: bytes of an entry in an answer, keys drawn at random, entries a batch, a lease for what has a lease at our node,
 * no TLS, one core (`GOMAXPROCS=1`), the project's disk, and an answer only after fdatasync. Reads are serializable ranges, its cheaper
 * kind: each side answers from what its own node holds.
 * Not equal, for etcd: it decodes no filter, checks no content and no scope, and knows no policy.
 * Not equal, for us: etcd runs Raft, alone or with its members, and keeps history. Our node does neither.
 */
import { spawn } from "node:child_process";
import { field, fieldsOf } from "../_frames.ts";
import { peerProgram } from "../_peers.ts";
import { freePort, onServerCore, type Running, runningOf, scratchDir } from "../_processes.ts";
import { type Address, Wire } from "../_wire.ts";
import { ask, drive, exactQuery, fail, INSTANCES, NAMESPACE, PATH } from "../_work.ts";

const START_MS = 120_000;

export const ETCD_PATH = {
  range: "/etcdserverpb.KV/Range",
  put: "/etcdserverpb.KV/Put",
  txn: "/etcdserverpb.KV/Txn",
  watch: "/etcdserverpb.Watch/Watch",
  grant: "/etcdserverpb.Lease/LeaseGrant",
  keepAlive: "/etcdserverpb.Lease/LeaseKeepAlive",
} as const;

export interface EtcdOptions {
  /** Absent: a fresh directory on the project's disk. */
  readonly dataDir?: string;
}

/** Where a member listens. */
interface Member {
  readonly name: string;
  readonly clientUrl: string;
  readonly peerUrl: string;
  readonly port: number;
}

async function memberOf(name: string): Promise<Member> {
  const [port, peerPort] = [await freePort(), await freePort()];
  return { name, port, clientUrl: `http://127.0.0.1:${port}`, peerUrl: `http://127.0.0.1:${peerPort}` };
}

/** Starts one member of those, and waits until it answers a range. */
async function startMember(
  program: string,
  member: Member,
  all: readonly Member[],
  options: EtcdOptions & { readonly isFree: boolean },
): Promise<Running> {
  const flags = [
    `--name=${member.name}`,
    `--data-dir=${options.dataDir ?? scratchDir("etcd")}`,
    "--log-level=error",
    `--quota-backend-bytes=${8 * 1024 ** 3}`,
    `--listen-client-urls=${member.clientUrl}`,
    `--advertise-client-urls=${member.clientUrl}`,
    `--listen-peer-urls=${member.peerUrl}`,
    `--initial-advertise-peer-urls=${member.peerUrl}`,
    `--initial-cluster=${all.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(",")}`,
  ];
  const [command, args] = options.isFree ? [program, flags] : onServerCore(program, flags);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: "ignore", env: { ...process.env, GOMAXPROCS: "1" } });
  const grpc = { host: "127.0.0.1", port: member.port };
  await answering(grpc);
  return runningOf("etcd", child, { grpc, startMs: performance.now() - startedMs });
}

/** Starts one member by itself; undefined when etcd is not installed. */
export async function startEtcd(options: EtcdOptions = {}): Promise<Running | undefined> {
  const program = peerProgram("etcd");
  if (program === undefined) return undefined;
  const member = await memberOf("default");
  return startMember(program, member, [member], { ...options, isFree: false });
}

/** Starts a cluster, its members on whatever core there is; none when etcd is not installed. */
export async function startEtcdCluster(count: number): Promise<readonly Running[]> {
  const program = peerProgram("etcd");
  if (program === undefined) return [];
  const members: Member[] = [];
  for (let i = 0; i < count; i++) members.push(await memberOf(`m${i}`));
  return Promise.all(members.map((member) => startMember(program, member, members, { isFree: true })));
}

async function answering(to: Address): Promise<void> {
  const end = performance.now() + START_MS;
  for (;;) {
    try {
      const wire = await Wire.open(to);
      await wire.unary(ETCD_PATH.range, field(1, "a"));
      wire.close();
      return;
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

/** A key whose service comes first and in order, as a user of etcd would choose it. */
export function etcdKey(k: number): string {
  return `/${NAMESPACE}/service-${Math.floor(k / INSTANCES)}/i-${k % INSTANCES}`;
}

/** The key after every key that starts with `prefix`. */
function afterPrefix(prefix: string): string {
  return `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
}

/** A serializable range over what starts with `prefix`; 0: without a limit. */
export function etcdRange(prefix: string, limit = 0): Uint8Array {
  const parts = [field(1, prefix), field(2, afterPrefix(prefix)), field(7, 1)];
  return Buffer.concat(limit === 0 ? parts : [...parts, field(3, limit)]);
}

/** The instances of one service. */
export function etcdExact(service: number): Uint8Array {
  return etcdRange(`/${NAMESPACE}/service-${service}/`);
}

/** A put; 0: under no lease. */
export function etcdPut(k: number, value: Uint8Array, leaseId = 0): Uint8Array {
  const parts = [field(1, etcdKey(k)), field(2, value)];
  return Buffer.concat(leaseId === 0 ? parts : [...parts, field(3, leaseId)]);
}

/** A transaction without conditions that puts keys `from` up to `to`; etcd takes 128 by default. */
export function etcdTxn(from: number, to: number, value: Uint8Array, leaseId = 0): Uint8Array {
  return Buffer.concat(Array.from({ length: to - from }, (_, i) => field(2, field(2, etcdPut(from + i, value, leaseId)))));
}

/** A grant of an hour under an id of our choice, so that the put can follow without reading the answer. */
export function etcdGrant(leaseId: number): Uint8Array {
  return Buffer.concat([field(1, 3600), field(2, leaseId)]);
}

/** Everything in the namespace, or one service of it. */
export function etcdWatch(service?: number): Uint8Array {
  const prefix = service === undefined ? `/${NAMESPACE}/` : `/${NAMESPACE}/service-${service}/`;
  return field(1, Buffer.concat([field(1, prefix), field(2, afterPrefix(prefix))]));
}

/** Keys of a watch response, and the first byte of each value: what a change says of itself. */
export function etcdChanges(message: Buffer): readonly { readonly key: string; readonly first: number }[] {
  // Events are field 11, the pair in each is field 2, with the key as 1 and the value as 5.
  return fieldsOf(message, 11).flatMap((event) =>
    fieldsOf(event, 2).map((pair) => ({ key: fieldsOf(pair, 1)[0]?.toString() ?? "", first: fieldsOf(pair, 5)[0]?.[0] ?? 0 })),
  );
}

/** Everything in the namespace, by a range that no other watch has: its end is beyond the last key, further for each. */
export function etcdWatchOwn(i: number): Uint8Array {
  const prefix = `/${NAMESPACE}/`;
  return field(1, Buffer.concat([field(1, prefix), field(2, `${prefix}~${i}`)]));
}

/** Entry bytes as both peers serve them: etcd's value is shorter by what its own key and numbers take in an answer. */
export interface Sizes {
  readonly entryBytes: number;
  readonly etcdValue: Uint8Array;
}

/** What one entry is on the wire, measured at the node. */
export async function sizesOf(node: Running, etcd: Running | undefined): Promise<Sizes> {
  const entryBytes = fieldsOf(await ask(node, PATH.query, exactQuery(0)), 1)[0]?.length ?? fail();
  if (etcd === undefined) return { entryBytes, etcdValue: Buffer.alloc(0) };
  let value = Buffer.alloc(entryBytes, "x");
  await ask(etcd, ETCD_PATH.put, etcdPut(0, value));
  const kvBytes = fieldsOf(await ask(etcd, ETCD_PATH.range, etcdRange(etcdKey(0))), 2)[0]?.length ?? fail();
  value = value.subarray(0, Math.max(1, entryBytes - (kvBytes - entryBytes)));
  return { entryBytes, etcdValue: value };
}

/**
 * Puts as many keys of the same size into etcd, one at a time as its users do: put by transactions of 100, the same keys
 * cost it twice as much to read.
 */
export async function loadEtcd(etcd: Running, count: number, { etcdValue }: Sizes): Promise<void> {
  await drive(etcd, ETCD_PATH.put, { count, inFlight: 64, message: (i) => etcdPut(i, etcdValue) });
}
