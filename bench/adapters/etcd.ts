/**
 * etcd as our figures stand beside it, with its own defaults but for what is named here.
 *
 * Made equal: bytes of an entry in an answer, keys drawn at random, entries a batch, a lease for what has a lease at our node, no TLS
 * and no authentication, one core (`GOMAXPROCS=1`, and pinned to the core that our node has in its turn; in a cluster every member has the
 * machine's cores, as our nodes do), the project's disk, and an answer only after a flush to the disk. A key is `/NAMESPACE/SERVICE/INSTANCE`, so that a service or a namespace is a prefix, and other namespaces stand
 * beside the one that is read. Reads are serializable ranges, its cheaper kind: each side answers from what its own node holds. Each watch is a
 * stream of its own at both, as of many programs; watches of one program that share a stream cost etcd less. Keys are loaded by one put
 * each, as its users do; its log says errors alone, and its quota is that of a large store, so that a million keys fit.
 * A lease lasts as long at both, so that none ends meanwhile.
 * Not equal, for etcd: it decodes no filter, checks no content and no scope, and knows no policy.
 * Not equal, for us: etcd runs Raft, alone or with its members, and keeps history. Our node does neither. A lease and what is under it are one
 * request at our node, and two at etcd, which has no such request.
 */
import { spawn } from "node:child_process";
import { field, fieldsOf } from "../_frames.ts";
import { peerProgram } from "../_peers.ts";
import { freePort, onServerCore, type Running, runningOf, scratchDir } from "../_processes.ts";
import { type Address, Wire } from "../_wire.ts";
import { ask, drive, exactQuery, fail, PATH, SMALL, smallNamespace } from "../_work.ts";
import { ETCD_PATH, etcdKey, etcdPut, etcdRange } from "./etcd-messages.ts";

const START_MS = 120_000;

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
  const env = options.isFree ? process.env : { ...process.env, GOMAXPROCS: "1" };
  const child = spawn(command, args, { stdio: "ignore", env });
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
  return (await EtcdCluster.start(count))?.members ?? [];
}

/** Members on whatever core there is, each of which can be started again on its data. */
export class EtcdCluster {
  readonly #program: string;
  readonly #all: readonly Member[];
  readonly #dataDirs: readonly string[];
  #members: readonly Running[] = [];

  private constructor(program: string, all: readonly Member[]) {
    this.#program = program;
    this.#all = all;
    this.#dataDirs = all.map(({ name }) => scratchDir(`etcd-${name}`));
  }

  /** Undefined when etcd is not installed. */
  static async start(count: number): Promise<EtcdCluster | undefined> {
    const program = peerProgram("etcd");
    if (program === undefined) return undefined;
    const all: Member[] = [];
    for (let i = 0; i < count; i++) all.push(await memberOf(`m${i}`));
    const cluster = new EtcdCluster(program, all);
    cluster.#members = await Promise.all(all.map((_, i) => cluster.#startMember(i)));
    return cluster;
  }

  get members(): readonly Running[] {
    return this.#members;
  }

  /** `host:port` of each member. */
  get endpoints(): readonly string[] {
    return this.#all.map(({ port }) => `127.0.0.1:${port}`);
  }

  /** Starts a member that has ended, and waits until it answers. */
  async restart(i: number): Promise<void> {
    const started = await this.#startMember(i);
    this.#members = this.#members.map((member, k) => (k === i ? started : member));
  }

  /** Starts all members together, after they have ended. */
  async restartAll(): Promise<void> {
    this.#members = await Promise.all(this.#all.map((_, i) => this.#startMember(i)));
  }

  /** The number of the member that leads. */
  async leader(): Promise<number> {
    const status = (i: number) => this.post<EtcdStatus>("maintenance/status", {}, i);
    const { leader } = await status(0);
    for (let i = 0; i < this.#all.length; i++) if ((await status(i)).header.member_id === leader) return i;
    throw new Error("etcd has no leader");
  }

  /** Calls a method of the JSON gateway of a member. */
  async post<T>(path: string, body: object, i = 0): Promise<T> {
    const answer = await fetch(`http://${this.endpoints[i]}/v3/${path}`, { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  #startMember(i: number): Promise<Running> {
    return startMember(this.#program, this.#all[i] ?? fail(), this.#all, { dataDir: this.#dataDirs[i] ?? fail(), isFree: true });
  }
}

interface EtcdStatus {
  readonly header: { readonly member_id: string };
  readonly leader: string;
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
export async function loadEtcd(etcd: Running, count: number, { etcdValue }: Sizes, from = 0): Promise<void> {
  await drive(etcd, ETCD_PATH.put, { count: count - from, inFlight: 64, message: (i) => etcdPut(from + i, etcdValue) });
}

/** The small namespaces, put as users do it too. */
export async function loadEtcdSmall(etcd: Running, { etcdValue }: Sizes): Promise<void> {
  const message = (i: number) => etcdPut(i % SMALL.entries, etcdValue, 0, smallNamespace(Math.floor(i / SMALL.entries)));
  await drive(etcd, ETCD_PATH.put, { count: SMALL.namespaces * SMALL.entries, inFlight: 64, message });
}
