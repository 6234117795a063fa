/**
 * Load from programs that are not ours: h2load posts the same bytes to us and to a peer, ghz says how long calls took, and etcd's own benchmark
 * drives etcd alone. They cost more than our driver, so a server is not always busy under them. CPU time a call shows whether our driver favours us.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { grpcFrame } from "./_frames.ts";
import { hasH2load, peerProgram } from "./_peers.ts";
import { type Running, scratchDir } from "./_processes.ts";
import { type Goal, percentile, ratioGoal, ratioOf, type Shown, type Spread, spread } from "./_results.ts";
import { ask, drive } from "./_work.ts";

const CONNECTIONS = 4;
const UNDER_WAY = 64;
/** Before the message of an answer. */
const GRPC_HEAD_BYTES = 5;
/** Numbers in an answer, as of a revision, take more bytes by and by, and ids that are drawn differ in length. */
const LENGTH_TOLERANCE = 0.01;
/** Rounds before those that count: Node compiles what has run often enough. */
const WARM_ROUNDS = 2;

/** Who sends the calls. */
type DriverName = "ours" | "h2load" | "ghz" | "etcd's benchmark";

/** One call that is repeated with the same bytes. */
export interface Repeated {
  readonly path: string;
  readonly message: Uint8Array;
  /** How etcd's benchmark makes this call; absent: it leaves it out. */
  readonly etcdBenchmark?: readonly string[];
}

/** What one side is asked for: a unit of work is each of these calls once. */
export interface Checked {
  readonly server: Running;
  readonly calls: readonly Repeated[];
}

/** What a program that drives has printed. */
async function output(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let [text, log] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString("utf8")));
  child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString("utf8")));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${command} ended with code ${code}: ${log.slice(-500)}`);
  return text;
}

function fileOf(name: string, content: Uint8Array | string): string {
  const file = join(scratchDir("driver"), name);
  writeFileSync(file, content);
  return file;
}

/** Makes so many calls. Returns how long they took in ms, where a driver says it. */
type Driver = (server: Running, call: Repeated, count: number) => Promise<readonly number[]>;

async function ourDriver(server: Running, { path, message }: Repeated, count: number): Promise<readonly number[]> {
  await drive(server, path, { count, inFlight: UNDER_WAY, connections: CONNECTIONS, message: () => message });
  return [];
}

/** A refusal of gRPC is a 200 too, but without an answer in it: so the bytes of all answers must be as many as those of one that is good. */
async function h2load(server: Running, { path, message }: Repeated, count: number): Promise<readonly number[]> {
  const { host, port } = server.grpc;
  const lengths = [(await ask(server, path, message)).length];
  const data = fileOf("body", grpcFrame(message));
  const load = ["-n", `${count}`, "-c", `${CONNECTIONS}`, "-m", `${UNDER_WAY / CONNECTIONS}`, "-d", data];
  const headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
  const text = await output("h2load", [...load, ...headers, `http://${host}:${port}${path}`]);
  lengths.push((await ask(server, path, message)).length);
  const bytes = Number(/\((\d+)\) data/.exec(text)?.[1]);
  const wanted = lengths.map((length) => count * (GRPC_HEAD_BYTES + length));
  const isWhole = bytes >= Math.min(...wanted) * (1 - LENGTH_TOLERANCE) && bytes <= Math.max(...wanted) * (1 + LENGTH_TOLERANCE);
  if (!text.includes(` ${count} succeeded`) || !isWhole)
    throw new Error(`h2load: answers of ${wanted.join(" to ")} bytes are due: ${text}`);
  return [];
}

/** A schema of the service in which a message has no fields: what is sent is sent as it stands. */
function schemaOf(path: string): string {
  const [service = "", method = ""] = path.slice(1).split("/");
  const dot = service.lastIndexOf(".");
  return [
    'syntax = "proto3";',
    `package ${service.slice(0, dot)};`,
    "message Any {}",
    `service ${service.slice(dot + 1)} { rpc ${method}(Any) returns (Any); }`,
  ].join("\n");
}

interface GhzReport {
  readonly statusCodeDistribution: Readonly<Record<string, number>>;
  readonly details: readonly { readonly latency: number }[];
}

async function ghz({ grpc: { host, port } }: Running, { path, message }: Repeated, count: number): Promise<readonly number[]> {
  const call = ["--proto", fileOf("service.proto", schemaOf(path)), "--call", path.slice(1), "-B", fileOf("message", message)];
  const load = ["-n", `${count}`, "-c", `${UNDER_WAY}`, "--connections", `${CONNECTIONS}`];
  const text = await output(peerProgram("ghz") ?? "", ["--insecure", ...call, ...load, "--format", "json", `${host}:${port}`]);
  const report = JSON.parse(text) as GhzReport;
  if (report.statusCodeDistribution["OK"] !== count) throw new Error(`ghz: ${JSON.stringify(report.statusCodeDistribution)}`);
  return report.details.map(({ latency }) => latency / 1e6);
}

async function etcdBenchmark(
  { grpc: { host, port } }: Running,
  { etcdBenchmark: args }: Repeated,
  count: number,
): Promise<readonly number[]> {
  if (args === undefined) return [];
  const load = [`--endpoints=${host}:${port}`, `--conns=${CONNECTIONS}`, `--clients=${UNDER_WAY}`, `--total=${count}`];
  await output(peerProgram("etcd-benchmark") ?? "", [...args, ...load]);
  return [];
}

const DRIVERS: Readonly<Record<DriverName, Driver>> = { ours: ourDriver, h2load, ghz, "etcd's benchmark": etcdBenchmark };
const DRIVER_NAMES = ["ours", "h2load", "ghz", "etcd's benchmark"] as const;

function isThere(driver: DriverName): boolean {
  if (driver === "ours") return true;
  if (driver === "h2load") return hasH2load();
  return peerProgram(driver === "ghz" ? "ghz" : "etcd-benchmark") !== undefined;
}

/** One side under one driver. */
export interface CheckRow {
  readonly work: string;
  readonly driver: DriverName;
  readonly program: Running["name"];
  readonly "CPU µs": Spread | string;
  /** Of all calls of a round that were made, as the driver says it. */
  readonly "p50 ms": number | string;
  readonly "p99 ms": number | string;
  /** Absent for us. */
  readonly "peer's CPU ÷ ours": Spread | string;
}

interface Round {
  readonly cpuUs: number;
  readonly tookMs: readonly number[];
}

async function oneRound(driver: Driver, { server, calls }: Checked, count: number): Promise<Round> {
  const beforeMs = server.cpuMs();
  const tookMs: number[] = [];
  for (const call of calls) tookMs.push(...(await driver(server, call, count)));
  return { cpuUs: ((server.cpuMs() - beforeMs) * 1000) / count, tookMs };
}

function rowOf(head: Pick<CheckRow, "work" | "driver" | "program">, rounds: readonly Round[], ours?: readonly Round[]): CheckRow {
  const cpuUs = (of: readonly Round[]) => of.map((round) => round.cpuUs);
  const tookMs = rounds.flatMap((round) => round.tookMs);
  return {
    ...head,
    "CPU µs": rounds.length === 0 ? "not measured" : spread(cpuUs(rounds)),
    "p50 ms": tookMs.length === 0 ? "-" : percentile(tookMs, 0.5),
    "p99 ms": tookMs.length === 0 ? "-" : percentile(tookMs, 0.99),
    "peer's CPU ÷ ours": (ours !== undefined && rounds.length > 0 && ratioOf(cpuUs(rounds), cpuUs(ours))) || "-",
  };
}

export interface CheckOptions {
  readonly rounds: number;
  /** Units of work in a round. */
  readonly count: number;
}

/** The same work under each driver and at each side, in rounds that go through all of them there and back. */
export async function underOtherDrivers(
  work: string,
  sides: readonly Checked[],
  { rounds, count }: CheckOptions,
): Promise<readonly CheckRow[]> {
  console.error(`${work}, under other drivers`);
  for (const { server, calls } of sides) for (const { path, message } of calls) await ask(server, path, message);
  // etcd's drives nobody else.
  const pairs = DRIVER_NAMES.flatMap((driver) =>
    sides
      .filter(({ server }) => driver !== "etcd's benchmark" || server.name === "etcd")
      .map((side) => ({ driver, side, rounds: [] as Round[] })),
  );
  const there = pairs.filter(({ driver }) => isThere(driver));
  for (let r = 0; r < WARM_ROUNDS + rounds; r++)
    for (const pair of r % 2 === 0 ? there : there.toReversed()) {
      const round = await oneRound(DRIVERS[pair.driver], pair.side, count);
      if (r >= WARM_ROUNDS) pair.rounds.push(round);
    }
  return pairs.map(({ driver, side, rounds: measured }) => {
    const ours = pairs.find((pair) => pair.driver === driver && pair.side.server.name === "waymark");
    return rowOf({ work, driver, program: side.server.name }, measured, side === ours?.side ? undefined : ours?.rounds);
  });
}

/** A goal for our node beside etcd under h2load. */
export interface UnderH2load {
  readonly name: string;
  readonly atLeast: number;
  readonly note?: string;
  /** Absent: the figure only checks our driver. */
  readonly shown?: Pick<Shown, "work" | "beside" | "unit">;
}

export function h2loadGoal(rows: readonly CheckRow[], wanted: UnderH2load): Goal {
  const row = (program: string) => rows.find((each) => each.driver === "h2load" && each.program === program);
  const [ours, theirs] = [row("waymark"), row("etcd")];
  return ratioGoal({
    ...wanted,
    ratio: theirs?.["peer's CPU ÷ ours"],
    ours: ours?.["CPU µs"],
    theirs: theirs?.["CPU µs"],
    missing: "etcd or h2load is not installed",
  });
}
