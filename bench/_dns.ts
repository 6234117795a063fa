/** What DNS servers are compared by: names that all of them have, and questions from dnsperf on the load's core. */
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { decode, encode, type OptAnswer, type Packet, type Question } from "dns-packet";
import { type Entry, EntryKind, EntrySchema, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterRequestSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { type Running, scratchDir } from "./_processes.ts";
import { type Address, Wire } from "./_wire.ts";
import { drive, fail, NAMESPACE, PATH } from "./_work.ts";

export const NAMES = 1000;
export const INSTANCES = 3;
export const ZONE = "waymark";
const BATCH_NAMES = 300;

/** One server that answers DNS. */
export interface DnsServer {
  readonly who: string;
  readonly running: Running;
  readonly at: Address;
}

/** The alias of a name, where it has one. */
export function aliasOf(n: number, namespace = NAMESPACE): string {
  return `shop-${n}.${namespace}`;
}

interface Shape {
  readonly namespace?: string;
  readonly version?: number;
  readonly port?: number;
  readonly hasAlias?: boolean;
}

/** Every instance of these names. Another `version` is a change that no DNS answer shows; another `port` is one that SRV shows. */
export function entriesOf(
  names: readonly number[],
  { namespace = NAMESPACE, version = 0, port = 8080, hasAlias = false }: Shape = {},
): readonly Entry[] {
  return names.flatMap((n) =>
    Array.from({ length: INSTANCES }, (_, i) =>
      create(EntrySchema, {
        key: { kind: EntryKind.SERVICE, namespace, name: `service-${n}`, instanceId: `i-${i}` },
        scope: Scope.REGION,
        targets: [{ host: `10.${n >> 8}.${n & 255}.${i + 1}`, port, protocol: "grpc", weight: 10 }],
        metadata: { v: String(version) },
        aliases: hasAlias ? [aliasOf(n, namespace)] : [],
      }),
    ),
  );
}

/** Registers them. */
export function namesBytes(names: readonly number[], shape: Shape = {}): Uint8Array {
  const entries = [...entriesOf(names, shape)];
  return toBinary(RegisterRequestSchema, create(RegisterRequestSchema, { entries, staticLease: true }));
}

/** Registers names 0 up to `count`. */
export async function loadNames(node: Running, count = NAMES, options: Shape = {}): Promise<void> {
  const numbers = Array.from({ length: count }, (_, n) => n);
  const message = (i: number) => namesBytes(numbers.slice(i * BATCH_NAMES, (i + 1) * BATCH_NAMES), options);
  await drive(node, PATH.register, { count: Math.ceil(count / BATCH_NAMES), inFlight: 4, message });
}

/** An A and an SRV question for each of the names. */
export function questionsOf(count = NAMES): readonly Question[] {
  return Array.from({ length: count }, (_, n): readonly Question[] => {
    const name = `service-${n}.${NAMESPACE}.${ZONE}`;
    return [
      { name, type: "A" },
      { name: `_svc._tcp.${name}`, type: "SRV" },
    ];
  }).flat();
}

/** A file of questions as dnsperf reads it. */
export function questionFile(questions: readonly Question[]): string {
  const file = join(scratchDir("questions"), "questions.txt");
  writeFileSync(file, questions.map(({ name, type }) => `${name} ${type}\n`).join(""));
  return file;
}

/** Two, of which the first is that of who asks from this machine. */
const VIEWS = [
  { prefixes: ["127.0.0.0/8"], tenant: "tenant-1" },
  { prefixes: ["10.0.0.0/8"], tenant: "tenant-2" },
];

/** Settings of a node: 1,000 rules beside the two that open the names to all tenants of the cluster, and two views. */
export function dnsSettings(dns: Readonly<Record<string, unknown>> = {}): string {
  const folder = scratchDir("dns");
  const closed = Array.from({ length: 1000 }, (_, i) => ({
    namespace: `org${i % 100}.app${i}.part`,
    visibility_tenants: [`tenant-${i % 100}`, `tenant-${(i + 1) % 100}`],
  }));
  const rules = [...closed, ...[NAMESPACE, "svc.other"].map((namespace) => ({ namespace, visibility: ["local"] }))];
  const policy = join(folder, "policy.json");
  writeFileSync(policy, JSON.stringify({ version: "bench", default_allow: false, rules }));
  const config = join(folder, "node.json");
  writeFileSync(config, JSON.stringify({ policy: { file: policy }, dns: { views: VIEWS, ...dns } }));
  return config;
}

/** Asks one question over UDP. */
export async function askDns(at: Address, question: Question, withinMs = 5000): Promise<Packet & { readonly bytes: number }> {
  const socket = createSocket("udp4");
  try {
    const answered = once(socket, "message", { signal: AbortSignal.timeout(withinMs) });
    const query = encode({ type: "query", id: 1, questions: [question], additionals: [OPT] });
    socket.send(query, at.port, at.host);
    const [message] = (await answered) as [Buffer];
    return { ...decode(message), bytes: message.length };
  } finally {
    socket.close();
  }
}

/** Whether a server has the zone by now. */
export async function isAnswering(at: Address): Promise<boolean> {
  try {
    return (await askDns(at, { name: ZONE, type: "SOA" }, 200)).answers?.length === 1;
  } catch {
    return false;
  }
}

/** As dnsperf asks: with EDNS. */
const OPT: OptAnswer = {
  type: "OPT",
  name: ".",
  udpPayloadSize: 1232,
  flags: 0,
  options: [],
  extendedRcode: 0,
  ednsVersion: 0,
  flag_do: false,
};

export interface Load {
  readonly seconds: number;
  /** Questions a second; as many as are answered when absent. */
  readonly perSecond?: number;
  /** Questions that may be under way. */
  readonly underWay?: number;
  /** dnsperf gives a question up after this. A second unless set. */
  readonly lostAfterSeconds?: number;
  /** Sockets that they come from. */
  readonly sockets?: number;
  /** Of dnsperf beside others on its core, as `nice` has it. */
  readonly priority?: number;
  /** Each question's latency is told: for this the answers must come at a pace. */
  readonly isTimed?: boolean;
}

export interface Loaded {
  readonly sent: number;
  readonly answered: number;
  /** Without an answer when dnsperf gave them up. */
  readonly lost: number;
  readonly perSecond: number;
  /** CPU of the server a question that was answered. */
  readonly cpuUs: number;
  /** Of a core that the server took. */
  readonly share: number;
  /** Mean of an answer. */
  readonly bytes: number;
  /** Of each question that was answered, where it is timed. */
  readonly tookMs: readonly number[];
}

/** Of dnsperf's sockets, in KiB: what it has no room for while it writes down what it was told would count as lost by the server. */
const SOCKET_KIB = "4096";
/** Questions under way: enough that no server ever waits for dnsperf, and fewer than what a socket holds. */
const UNDER_WAY = 400;

/** dnsperf for a while. Throws where an answer is no success. */
export async function dnsperf({ who, running, at }: DnsServer, file: string, load: Load): Promise<Loaded> {
  const { seconds, perSecond, underWay = UNDER_WAY, lostAfterSeconds = 1, sockets = 4, isTimed = false, priority } = load;
  const args = ["-s", at.host, "-p", String(at.port), "-d", file, "-l", String(seconds), "-q", String(underWay)];
  // More than can be answered for ten minutes would be half a gigabyte of lines about what was not. With `unexpected` among them dnsperf 2.10 never ends once an answer
  // is late; those lines go to stderr.
  args.push(
    "-c",
    String(sockets),
    "-b",
    SOCKET_KIB,
    "-e",
    "-t",
    String(lostAfterSeconds),
    "-O",
    "suppress=timeout,congestion,sendfailed,sockready",
  );
  if (perSecond !== undefined) args.push("-Q", String(Math.round(perSecond)));
  if (isTimed) args.push("-v");
  // Into a file: this process would have to read while the questions are sent.
  const told = join(scratchDir("dnsperf"), "told");
  const out = openSync(told, "w");
  const beforeMs = running.cpuMs();
  const child = spawn("dnsperf", args, { stdio: ["ignore", out, "ignore"] });
  if (priority !== undefined && child.pid !== undefined) setPriority(child.pid, priority);
  await once(child, "close");
  const cpuMs = running.cpuMs() - beforeMs;
  closeSync(out);
  const text = readFileSync(told, "utf8");
  const figure = (name: string) => Number(new RegExp(`${name}:?\\s+([\\d.]+)`).exec(text)?.[1] ?? fail());
  const rcodes = /Response codes:\s+(.*)/.exec(text)?.[1] ?? "";
  if (!/^NOERROR \d+ \(100/.test(rcodes)) throw new Error(`${who} answers with ${rcodes}`);
  const answered = figure("Queries completed");
  return {
    sent: figure("Queries sent"),
    answered,
    lost: figure("Queries lost"),
    perSecond: figure("Queries per second"),
    cpuUs: (cpuMs * 1000) / answered,
    share: cpuMs / 1000 / figure("Run time \\(s\\)"),
    bytes: figure("request \\d+, response"),
    tookMs: isTimed ? [...text.matchAll(/^> NOERROR .* ([\d.]+)$/gm)].map(([, latency]) => Number(latency) * 1000) : [],
  };
}

/** A node takes 128 calls on a connection at a time. */
const MAX_UNDER_WAY = 100;

/** Registers at an even rate from now on; the function ends it. */
export async function changing(node: Running, perSecond: number, message: (i: number) => Uint8Array): Promise<() => Promise<void>> {
  const wire = await Wire.open(node.grpc);
  const underWay = new Set<Promise<unknown>>();
  const startMs = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - startMs) / 1000) * perSecond);
    for (; sent < due && underWay.size < MAX_UNDER_WAY; sent++) {
      const answer: Promise<unknown> = wire.unary(PATH.register, message(sent)).finally(() => underWay.delete(answer));
      underWay.add(answer);
    }
  }, 5);
  return async () => {
    clearInterval(timer);
    await Promise.all(underWay);
    wire.close();
  };
}
